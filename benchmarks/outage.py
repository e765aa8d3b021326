"""`python -m benchmarks.outage [outage|faults|lost]`: what outages do to many deployments at once; without a word, all.

Real PostgreSQL, Temporal, workers and adapters; the providers are the tests' stand-ins, all in this process.
`outage`: 50 deployments, all providers away for 20 s in their middle. `faults`: 300, of whose calls three of ten fail.
`lost`: 500, of each of which the create's first answer is lost. The first number of each line has to be all of them.
"""

import asyncio
import os
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import structlog

from store.database import migrate
from store.seal import Sealer
from tests.conftest import SECRET_KEYS
from tests.end_to_end import hosted
from tests.end_to_end.hosted import Outcome, Service, service
from tests.servers import postgres_server, temporal_server

LOOK_SECONDS = 2.0
OUTAGE_SECONDS = float(os.environ.get("OUTAGE_SECONDS", "20"))
PATIENCE_SECONDS = 1800

ROWS: dict[str, tuple[int, Callable[[Service, int], Awaitable[Outcome]]]] = {
    "outage": (50, lambda of, number: hosted.outage(of, number, OUTAGE_SECONDS, patience=PATIENCE_SECONDS)),
    "faults": (300, lambda of, number: hosted.faults(of, number, patience=PATIENCE_SECONDS)),
    "lost": (500, lambda of, number: hosted.lost_answers(of, number, patience=PATIENCE_SECONDS)),
}


async def measure(name: str, directory: Path) -> None:
    number, run = ROWS[name]
    directory.mkdir(mode=0o755)
    async with postgres_server(directory) as postgres, temporal_server(directory) as temporal:
        await migrate(postgres.url("postgres"))
        async with service(
            postgres.url("postgres"), Sealer(SECRET_KEYS), temporal, directory / "data", look=LOOK_SECONDS
        ) as of:
            began = time.monotonic()
            found = await run(of, number)
            seconds = time.monotonic() - began
            creates = [one.creates.items() for one in hosted.stand_ins(of)]
            made = sum(times for one in creates for what, times in one if " " not in what)  # no promotions
            calls = sum(len(one.requests) for one in hosted.stand_ins(of))
    statuses = ", ".join(f"{times} {status}" for status, times in found.statuses.items())
    print(f"{name}: {statuses}, of {number}; {made} builds; {found.waiting} said that they waited; {calls} calls;")
    print(f"    {len(found.logs)} lines of logs missing or twice; {seconds:.0f} s, load {os.getloadavg()[0]:.1f}")
    for line in found.logs[:10]:
        print(f"    {line}")


def main() -> None:
    structlog.configure(logger_factory=structlog.ReturnLoggerFactory())
    with tempfile.TemporaryDirectory(prefix="headway-bench-") as directory:
        Path(directory).chmod(0o755)
        for name in sys.argv[1:] or ROWS:
            asyncio.run(measure(name, Path(directory) / name))


if __name__ == "__main__":
    main()
