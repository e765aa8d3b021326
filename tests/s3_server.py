"""A real S3 server for tests: SeaweedFS on loopback, in a directory of its own, ended with the block."""

import contextlib
import json
import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import httpx

from tests.servers import free_port, running

WEED = str(Path(sys.executable).with_name("weed"))
ACCESS_KEY, SECRET_KEY = "archive", "secret-of-the-archive"
_PORTS = ("master", "volume", "filer", "s3", "admin")
_FLAGS = ("-admin.ui=false", "-webdav=false", "-s3.port.iceberg=0", "-s3.port.lance=0", "-s3.iam=false")


@dataclass(frozen=True)
class S3Server:
    """Buckets are made by the first write into them."""

    endpoint: str


@contextlib.asynccontextmanager
async def s3_server(directory: Path) -> AsyncIterator[S3Server]:
    ports = {f"{name}.{kind}": free_port() for name in _PORTS for kind in ("port", "port.grpc")}
    identity = {
        "name": "headway",
        "credentials": [{"accessKey": ACCESS_KEY, "secretKey": SECRET_KEY}],
        "actions": ["Admin"],
    }
    config = directory / "s3.json"
    config.write_text(json.dumps({"identities": [identity]}))
    endpoint = f"http://127.0.0.1:{ports['s3.port']}"

    async def ready() -> bool:
        async with httpx.AsyncClient(trust_env=False) as client:
            with contextlib.suppress(httpx.TransportError):
                return (await client.get(f"{endpoint}/healthz")).is_success
        return False

    where = [f"-dir={directory}", "-ip=127.0.0.1", "-ip.bind=127.0.0.1", f"-s3.config={config}"]
    flags = [*_FLAGS, "-master.telemetry=false", *(f"-{name}={port}" for name, port in ports.items())]
    try:
        async with running(WEED, "mini", *where, *flags, ready=ready, log=directory / "weed.log", HOME=str(directory)):
            yield S3Server(endpoint)
    finally:
        for port in ports.values():  # what it leaves where all may write
            for socket in Path("/tmp").glob(f"seaweedfs-*-{port}.sock"):
                socket.unlink(missing_ok=True)
