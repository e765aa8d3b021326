"""Build output to measure with: recorded from gcc, javac, Maven, npm, pip, pytest, tsc, unittest and webpack.

`output/` holds what they said, paths and hosts replaced. It is told over and over; hashes, durations, numbers of
processes and names of temporary files are new each time, since it is they that make a real log hard to compress.
"""

import lzma
import random
import re
from collections.abc import Iterator
from pathlib import Path

_VARIES = re.compile(r"\b(?:[0-9a-f]{7,64}|\d+(?:\.\d+)?(?= ?m?s\b)|\d+\.\d{2,}|(?<=/cc)\w{6}(?=\.)|(?<=tmp)\w{8}\b)")
_HEX = "0123456789abcdef"


def recorded() -> list[str]:
    files = sorted((Path(__file__).parent / "output").glob("*.txt.xz"))
    return [line for file in files for line in lzma.decompress(file.read_bytes()).decode().splitlines()]


def build_output(count: int, seed: int = 1) -> Iterator[str]:
    """So many lines; the same ones for the same seed."""
    chance = random.Random(seed)
    base = recorded()
    for number in range(count):
        yield _VARIES.sub(lambda found: _renewed(found[0], chance), base[number % len(base)])


def _renewed(text: str, chance: random.Random) -> str:
    if text.replace(".", "").isdigit():
        return "".join(chance.choice("0123456789") if mark.isdigit() else mark for mark in text)
    return "".join(chance.choices(_HEX, k=len(text)))
