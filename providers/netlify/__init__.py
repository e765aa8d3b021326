"""The `netlify` provider: Netlify's REST API, as its official description and its own clients show it."""
