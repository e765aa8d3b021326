"""Host names that no request can be made of, or that lead nowhere: what providers, settings and redirects may bring."""

NO_HOSTS = [
    "xn--",
    "xn--a-",
    "XN--A-.example.invalid",
    "xn--0.example.invalid",
    "xn--ls8h.invalid",
    "xn--\u00e9.invalid",
    "\u00e9" * 70 + ".invalid",
    "\u2024.invalid",
    "\uff11\uff12\uff17.0.0.1",
    "\U0001f600.invalid",
    "\udcff",
    "256.256.256.256",
    "[::1",
    "[::1]]",
    "[v1.x]",
    "h:0x50",
    "h:99999",
    "a b",
]
"""Refused before anything is asked."""

NOWHERE = [
    ".",
    "..",
    "a..invalid",
    ".a",
    "a" * 64 + ".invalid",
    "a" * 254,
    "a_b.invalid",
    "a%00b",
    "a%2fb",
    "a%zz",
    "{a}",
]
"""Names to a request, and to nobody else."""
