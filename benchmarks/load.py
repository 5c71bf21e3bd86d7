"""How the service bears many clients at once: uploads, slow bodies, tiles, pages, beside a watch on /healthz.

    python -m benchmarks.load [--clients 200] [--seconds 60]

Everything stays on loopback and ends after the seconds given. Prints what was answered by kind and status, percentiles
of /healthz against those of the same service at rest, and the memory of the API process before, at most and after.
Any 5xx but 503 and 507 with Retry-After, and any transport error but a refused connection, is listed as a fault.
"""

import argparse
import asyncio
import json
import os
import random
import socket
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from contextlib import suppress
from pathlib import Path

import httpx2
import numpy as np
import psutil
import rasterio

Ask = Callable[[httpx2.AsyncClient, random.Random], Awaitable[None]]


class Tally:
    """What was answered."""

    def __init__(self) -> None:
        self.answers: Counter[tuple[str, int]] = Counter()
        self.faults: Counter[str] = Counter()
        self.health: list[float] = []

    def note(self, kind: str, response: httpx2.Response) -> None:
        """Count an answer."""
        self.answers[kind, response.status_code] += 1
        busy = response.status_code in (503, 507) and "retry-after" in response.headers
        if response.status_code >= 500 and not busy:
            self.faults[f"{kind}: {response.status_code}"] += 1


def scene(side: int = 128) -> bytes:
    """A small GeoTIFF of noise."""
    profile = {"driver": "GTiff", "width": side, "height": side, "count": 3, "dtype": "uint8", "crs": "EPSG:32616"}
    profile["transform"] = rasterio.Affine(0.6, 0, 700000, 0, -0.6, 4400000)
    with rasterio.MemoryFile() as memory:
        with memory.open(**profile) as target:
            target.write(np.random.default_rng(0).integers(0, 255, (3, side, side), dtype=np.uint8))
        return bytes(memory.read())


def clients(url: str, body: bytes, map_id: str | None, tally: Tally) -> list[Ask]:
    """The kinds of clients; each is one request."""

    async def upload(client: httpx2.AsyncClient, dice: random.Random) -> None:
        tally.note("upload", await client.put(f"/scenes/{dice.randrange(10**6)}.tif", content=body))

    async def pages(client: httpx2.AsyncClient, dice: random.Random) -> None:
        path = dice.choice(["/", "/scenes", "/jobs", "/maps", "/models", "/collections", "/openapi.json"])
        tally.note("page", await client.get(path))

    async def tiles(client: httpx2.AsyncClient, dice: random.Random) -> None:
        z = dice.randrange(20)
        path = f"/maps/{map_id or '0' * 20}/tiles/{z}/{dice.randrange(2**z)}/{dice.randrange(2**z)}.png"
        tally.note("tile", await client.get(path))

    async def slow(client: httpx2.AsyncClient, dice: random.Random) -> None:
        """Headers whole, then a byte now and then: ended by the service."""
        reader, writer = await asyncio.open_connection("127.0.0.1", int(url.rpartition(":")[2]))
        writer.write(b"PUT /scenes/slow.tif HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100000\r\n\r\n")
        with suppress(OSError):
            while not reader.at_eof() and not reader._buffer:  # type: ignore[attr-defined]
                writer.write(b"a")
                await writer.drain()
                await asyncio.sleep(1.0)
        writer.close()
        tally.answers["slow body", 408] += 1

    return [upload, pages, pages, tiles, tiles, slow]


async def load(url: str, count: int, seconds: float, map_id: str | None, tally: Tally) -> None:
    """`count` clients for `seconds`, and a watch beside them."""
    ends, body = time.monotonic() + seconds, scene()
    kinds = clients(url, body, map_id, tally)

    async def one(client: httpx2.AsyncClient, number: int) -> None:
        dice, ask = random.Random(number), kinds[number % len(kinds)]
        while time.monotonic() < ends:
            try:
                await ask(client, dice)
            except httpx2.TransportError as error:
                tally.faults[type(error).__name__] += 1
                await asyncio.sleep(0.5)

    # One pool for all: a client of this library takes longer to make than the service to answer.
    limits = httpx2.Limits(max_connections=count, max_keepalive_connections=count)
    async with (
        httpx2.AsyncClient(base_url=url, timeout=90, limits=limits, verify=False) as client,
        asyncio.TaskGroup() as group,
    ):
        running = [group.create_task(one(client, n)) for n in range(count)]
        watching = asyncio.create_task(asyncio.to_thread(lambda: asyncio.run(watch(url, ends, tally))))
        await asyncio.sleep(seconds + 5)
        for task in running:
            task.cancel()
        await watching


async def watch(url: str, ends: float, tally: Tally) -> None:
    """Ask /healthz ten times a second until `ends`."""
    async with httpx2.AsyncClient(base_url=url, timeout=90, verify=False) as client:
        while time.monotonic() < ends:
            began = time.monotonic()
            tally.note("health", await client.get("/healthz"))
            tally.health.append(time.monotonic() - began)
            await asyncio.sleep(0.1)


def percentiles(times: list[float]) -> str:
    """Median, 99 % and the longest, in milliseconds."""
    p50, p99, most = (np.percentile(times, p) * 1000 for p in (50, 99, 100))
    return f"p50 {p50:.1f} ms, p99 {p99:.1f} ms, longest {most:.1f} ms"


def main() -> None:
    """Start a service, load it, report."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--clients", type=int, default=200)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--data", type=Path, help="a data folder whose first map is asked for tiles")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
        probe.close()
        data = given.data or Path(folder) / "data"
        command = [sys.executable, "-m", "geounet", "serve", "--port", str(port), "--data", str(data), "--no-worker"]
        environment = {**os.environ, "GEOUNET_SERVICE_DISK_RESERVE": "0", "GEOUNET_SERVICE_BODY_SECONDS": "5"}
        service = subprocess.Popen(command, stderr=subprocess.DEVNULL, env=environment)
        try:
            report(f"http://127.0.0.1:{port}", service.pid, given.clients, min(given.seconds, 60.0))
        finally:
            service.terminate()
            service.wait(20)


def report(url: str, pid: int, count: int, seconds: float) -> None:
    """Measure at rest and under load."""
    _wait(url)
    rest, tally, process = Tally(), Tally(), psutil.Process(pid)
    asyncio.run(watch(url, time.monotonic() + 5, rest))
    maps = httpx2.get(f"{url}/maps").json()["maps"]
    before = process.memory_info().rss
    asyncio.run(load(url, count, seconds, maps[0]["id"] if maps else None, tally))
    after = process.memory_info().rss
    print(f"{count} clients, {seconds:.0f} s on {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f} at the end")
    for (kind, status), number in sorted(tally.answers.items()):
        print(f"  {kind:10} {status}  {number}")
    print(f"healthz at rest:    {percentiles(rest.health)}")
    print(f"healthz under load: {percentiles(tally.health)}")
    ratio = float(np.percentile(tally.health, 99) / np.percentile(rest.health, 99))
    print(f"p99 under load / at rest: {ratio:.1f}")
    print(f"memory of the API: {before / 1e6:.0f} MB before, {after / 1e6:.0f} MB after")
    print("faults: " + (json.dumps(dict(tally.faults)) if tally.faults else "none"))


def _wait(url: str) -> None:
    ends = time.monotonic() + 120
    while time.monotonic() < ends:
        with suppress(httpx2.TransportError):
            httpx2.get(f"{url}/healthz", timeout=5)
            return
        time.sleep(0.2)
    raise SystemExit("the service did not start")


if __name__ == "__main__":
    main()
