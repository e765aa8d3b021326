"""The `vercel` provider: Vercel's REST API, as its official description (vercel/sdk) and its own clients show it."""
