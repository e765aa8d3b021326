"""How tools write a secret's value: what a mask has to find. The standard library is enough: a build runs it, too."""

import base64
import json
import re
import shlex
from collections.abc import Callable
from urllib.parse import quote, quote_plus

Spell = Callable[[str], str]


def percent(text: str, which: Callable[[int], bool] = lambda _: True, form: str = "%{:02X}") -> str:
    return "".join(
        "".join(form.format(byte) for byte in character.encode()) if which(number) else character
        for number, character in enumerate(text)
    )


def all_escaped(text: str) -> str:
    units = text.encode("utf-16-be").hex()
    return "".join(f"\\u{units[n : n + 4]}" for n in range(0, len(units), 4))


def in_base64(text: str, before: str = "", after: str = "") -> str:
    return base64.b64encode((before + text + after).encode()).decode()


def for_addresses(text: str, before: str = "", after: str = "") -> str:
    return base64.urlsafe_b64encode((before + text + after).encode()).decode().rstrip("=")


def backslashes(text: str) -> str:
    return text.replace("\\", "\\\\").replace("'", "\\'").replace("\n", "\\n")


SPELLINGS: dict[str, Spell] = {
    "as it is": str,
    "percent": lambda text: quote(text, safe=""),
    "percent, but for what an address allows": lambda text: quote(text, safe="/:@!$&'()*+,;="),
    "percent, lower case": lambda text: re.sub("%..", lambda found: found[0].lower(), quote(text, safe="")),
    "percent, every byte": percent,
    "percent, every other": lambda text: percent(text, lambda number: number % 2 == 1),
    "percent, twice": lambda text: quote(quote(text, safe=""), safe=""),
    "a form": quote_plus,
    "JSON": lambda text: json.dumps(text)[1:-1],
    "JSON, not ASCII alone": lambda text: json.dumps(text, ensure_ascii=False)[1:-1],
    "JSON, slashes too": lambda text: json.dumps(text)[1:-1].replace("/", "\\/"),
    "JSON, every character": all_escaped,
    "JSON in JSON": lambda text: json.dumps(json.dumps(text)[1:-1])[1:-1],
    "JSON in an address": lambda text: quote(json.dumps(text)[1:-1], safe=""),
    "single quotes, with others between": shlex.quote,
    "single quotes, with backslashes between": lambda text: "'" + text.replace("'", "'\\''") + "'",
    "double quotes": lambda text: '"' + re.sub(r'(["\\$`])', r"\\\1", text) + '"',
    "dollar quotes": lambda text: f"$'{backslashes(text)}'",
    "dollar quotes, octal": lambda text: percent(text, lambda number: number % 3 == 1, "\\{:03o}"),
    "dollar quotes, hex": lambda text: percent(text, lambda number: number % 3 == 1, "\\x{:02x}"),
    "backslashes": lambda text: re.sub(r"([^A-Za-z0-9\n])", r"\\\1", text),
    "Python": lambda text: ascii(text)[1:-1],
    "HTML": lambda text: text.replace("&", "&amp;").replace("<", "&lt;").replace('"', "&quot;").replace("'", "&#39;"),
    "base64": in_base64,
    "base64, after one": lambda text: in_base64(text, "x", "more"),
    "base64, after two": lambda text: in_base64(text, "xy", "m"),
    "base64 in an address": lambda text: quote(in_base64(text), safe=""),
    "base64 in JSON": lambda text: in_base64(text).replace("/", "\\/"),
    "base64 of JSON": lambda text: in_base64(json.dumps({"a": text})),
    "base64 for addresses": for_addresses,
    "base64 for addresses, after one": lambda text: for_addresses(text, "?", "~"),
    "base64 for addresses, after two": lambda text: for_addresses(text, "user:", "\xff"),
    "hex": lambda text: text.encode().hex(),
    "hex, capitals": lambda text: text.encode().hex().upper(),
}
