"""What holds deployments still at a status until the harness lets them go on: builds, their provider, their git server.

A deployment says by its variables where it is held: `HOLD` is the status, `WHO` is its name. Builds print numbered
ticks for as long as they are held in `building`, and in the end how many they were.
"""

import asyncio
from collections import Counter, defaultdict
from pathlib import Path

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.types import Receive, Scope, Send

from tests.providers.custom_stand_in import CustomStandIn, Made

LEAST_TICKS = 3
TICK_SECONDS = 0.25

REPOSITORY = {
    "build.sh": f"""\
echo "begin $WHO"
i=0
while [ $i -lt {LEAST_TICKS} ] || {{ [ "$HOLD" = building ] && [ ! -e go ]; }}; do
  i=$((i + 1)); echo "tick $i"; sleep {TICK_SECONDS}
done
echo "ticks $i"
mkdir -p out && echo "$WHO" > out/index.html
exit "${{ENDS_WITH:-0}}"
"""
}
BUILD = {"buildCommand": "sh build.sh", "outputDirectory": "out"}


class HeldProvider(CustomStandIn):
    """A deploy server. `builds` counts by deployment, which is what one intent must have one of."""

    def __init__(self) -> None:
        super().__init__()
        self._gates: defaultdict[str, asyncio.Event] = defaultdict(asyncio.Event)
        self._lives: set[asyncio.Task[None]] = set()
        self.published: Counter[str] = Counter()

    def let_go(self, token: str) -> None:
        self._gates[token].set()

    @property
    def builds(self) -> Counter[str]:
        return self.creates

    async def create(self, request: Request) -> Response:
        """It is made at once. For one that is held in `initializing` the answer is late, or the build begins late."""
        answer = await super().create(request)
        if answer.status_code == 201:
            made = self.made[f"b{len(self.made)}"]
            life = asyncio.create_task(self._live(made))
            self._lives.add(life)
            life.add_done_callback(self._lives.discard)
            if len(self.made) % 2:
                await self._held(made, "initializing")
        return answer

    async def publish(self, request: Request) -> Response:
        made = self.made[request.path_params["id"]]
        await self._held(made, "deploying")
        made.more |= {"live": True, "url": "https://shop.example.org/"}
        self.published[made.body["key"]] += 1
        return JSONResponse(self._document(made))

    async def _live(self, made: Made) -> None:
        variables = made.body["variables"]
        await self._held(made, "initializing")
        made.status = "building" if made.status == "queued" else made.status
        made.lines.append("begin " + variables["WHO"])
        ticks = 0
        while made.status == "building" and (ticks < LEAST_TICKS or self._holds(made, "building")):
            ticks += 1
            made.lines.append(f"tick {ticks}")
            await asyncio.sleep(TICK_SECONDS)
        if made.status == "building":
            made.lines.append(f"ticks {ticks}")
            made.status = "failed" if variables.get("ENDS_WITH") else "succeeded"

    def _holds(self, made: Made, status: str) -> bool:
        variables = made.body["variables"]
        return bool(variables.get("HOLD") == status and not self._gates[variables["WHO"]].is_set())

    async def _held(self, made: Made, status: str) -> None:
        if self._holds(made, status):
            await self._gates[made.body["variables"]["WHO"]].wait()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Without a judge: what it is asked is held to its description elsewhere, and here there is much of it."""
        await self._router(scope, receive, send)


def let_build_go(data_dir: Path, deployment_id: str) -> None:
    workspace = data_dir / "builds" / deployment_id / "workspace"
    if workspace.exists():  # else it has ended, or has not begun and holds for nobody
        (workspace / "go").touch()
