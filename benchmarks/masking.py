"""`python -m benchmarks.masking`: what it costs to look for forty secrets in every spelling, in CPU time a line.

Beside it, in the same run: Python's own `re` looking for the forty values as they are.
"""

import random
import re
import string
import time
from collections.abc import Callable

from benchmarks.corpus import build_output
from domain.masking import Mask

LINES = 5000
ROUNDS = 6


def microseconds(work: Callable[[], object], lines: int = LINES) -> float:
    began = time.process_time()
    work()
    return (time.process_time() - began) / lines * 1e6


def main() -> None:
    chance = random.Random(1)
    signs = string.ascii_letters + string.digits + string.punctuation + " "
    secrets = ["".join(chance.choices(signs, k=chance.randint(8, 60))) for _ in range(40)]
    batches = [[*build_output((number + 1) * LINES)][-LINES:] for number in range(ROUNDS)]
    mask = Mask(secrets)
    print(f"the first search is made in {microseconds(lambda: mask.text('x'), 1000):.0f} ms")
    fresh = [microseconds(lambda: mask.texts(batch)) for batch in batches]  # noqa: B023  # called at once
    again = [microseconds(lambda: mask.texts(batch)) for batch in batches]  # noqa: B023  # called at once
    print(f"µs a line, nothing found: {max(fresh):.2f} while the output is of a new kind, {max(again):.2f} afterwards")
    printed = [f"{line} token={secrets[number % 40]}" for number, line in enumerate(batches[0])]
    mask.texts(printed)
    print(f"µs a line, a secret in each: {microseconds(lambda: mask.texts(printed)):.2f}")
    plain = re.compile("|".join(map(re.escape, secrets)))
    print(f"µs a line, the values alone by `re`: {microseconds(lambda: plain.search(chr(10).join(batches[0]))):.2f}")


if __name__ == "__main__":
    main()
