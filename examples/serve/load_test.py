"""Load test of the example: clients that send the next request as soon as they have an answer.

    python -m examples.serve.load_test data/policy-onnx

In: a folder that `lea export --onnx` made. Out: on stdout, requests per second, latencies and errors, after a warm-up
of one second. It starts uvicorn on a free port of this machine, so clients and server share its cores; a server alone
is faster. Histories are drawn from the vocabulary, with a seed. GET /health is also asked ten times a second, to
measure how long it waits. Processor time per request depends least on other load of the machine.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import random
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from itertools import cycle
from pathlib import Path

from lea_core.serving.onnx_policy import OnnxPolicy

ROOT = Path(__file__).parent.parent.parent
HOST = "127.0.0.1"
WARM_UP = 1.0  # seconds
START_SECONDS = 60.0
HEALTH_EVERY = 0.1  # seconds
BODIES = 1000


@contextlib.contextmanager
def server(folder: Path) -> Iterator[int]:
    """Run the example on a free port, yield the port when it is healthy, and stop it."""
    with socket.socket() as free:
        free.bind((HOST, 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "uvicorn", "--factory", "examples.serve.app:create_app", "--host", HOST]
    command += ["--port", str(port), "--log-level", "warning"]
    process = subprocess.Popen(command, cwd=ROOT, env=os.environ | {"LEA_POLICY": str(folder.resolve())})  # noqa: S603
    try:
        _wait(process, port)
        yield port
    finally:
        process.terminate()
        process.wait(timeout=START_SECONDS)


def _wait(process: subprocess.Popen[bytes], port: int) -> None:
    until = time.monotonic() + START_SECONDS
    while time.monotonic() < until and process.poll() is None:
        try:
            with urllib.request.urlopen(f"http://{HOST}:{port}/health", timeout=START_SECONDS):
                return
        except urllib.error.URLError:
            time.sleep(0.05)
    raise SystemExit("error: the server did not start: what it says is above")


async def ask(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, request: bytes) -> tuple[int, bytes]:
    """Status and body of one answer on an open connection. As little as HTTP needs, for the client costs time too."""
    writer.write(request)
    head = await reader.readuntil(b"\r\n\r\n")
    lines = head.decode("latin-1").lower().split("\r\n")
    length = next(int(line.removeprefix("content-length:")) for line in lines if line.startswith("content-length:"))
    return int(lines[0].split()[1]), await reader.readexactly(length)


def post(body: bytes) -> bytes:
    """A request to /recommend."""
    return b"POST /recommend HTTP/1.1\r\nHost: lea\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body)


async def client(port: int, requests: list[bytes], first: int, until: float) -> list[tuple[float, float, bool]]:
    """Ask until the time `until`; when each answer came, how long it took, in seconds, and whether it was right."""
    reader, writer = await asyncio.open_connection(HOST, port)
    done = []
    for request in cycle(requests[first:] + requests[:first]):
        start = time.perf_counter()
        if start >= until:
            break
        status, body = await ask(reader, writer, request)
        end = time.perf_counter()
        done.append((end, end - start, status == 200 and bool(json.loads(body))))
    writer.close()
    return done


async def health(port: int, until: float) -> list[float]:
    """Seconds of every answer of /health."""
    reader, writer = await asyncio.open_connection(HOST, port)
    seconds = []
    while (start := time.perf_counter()) < until:
        await ask(reader, writer, b"GET /health HTTP/1.1\r\nHost: lea\r\n\r\n")
        seconds.append(time.perf_counter() - start)
        await asyncio.sleep(HEALTH_EVERY)
    writer.close()
    return seconds


async def processor_seconds(port: int) -> float:
    """What the server has used of the processor since its start, as /metrics tells."""
    reader, writer = await asyncio.open_connection(HOST, port)
    _, body = await ask(reader, writer, b"GET /metrics HTTP/1.1\r\nHost: lea\r\n\r\n")
    writer.close()
    (line,) = (line for line in body.decode().splitlines() if line.startswith("process_cpu_seconds_total "))
    return float(line.split()[1])


async def load(port: int, requests: list[bytes], clients: int, seconds: float) -> str:
    """One line of numbers about `clients` that ask for so many seconds."""
    used = await processor_seconds(port)
    start = time.perf_counter() + WARM_UP
    until = start + seconds
    waits = asyncio.create_task(health(port, until))
    found = await asyncio.gather(
        *(client(port, requests, number * len(requests) // clients, until) for number in range(clients))
    )
    used = await processor_seconds(port) - used
    counted = [one for own in found for one in own if one[0] >= start]
    took = sorted(1000 * one[1] for one in counted)
    errors = sum(not right for *_, right in counted)
    p50, p99 = (took[int(share * (len(took) - 1))] for share in (0.5, 0.99))
    each = 1000 * used / sum(map(len, found))
    return (
        f"{len(took) / seconds:,.0f} requests/s, p50 {p50:.1f} ms, p99 {p99:.1f} ms, worst {took[-1]:.1f} ms, "
        f"{errors} errors of {len(took):,}; server {each:.2f} ms of processor each; "
        f"/health {1000 * max(await waits):.1f} ms at worst"
    )


def bodies(folder: Path, histories: int) -> list[bytes]:
    """Requests for ten items after histories of 1 to 50 items."""
    ids = OnnxPolicy.load(folder).item_ids
    draw = random.Random(0)  # noqa: S311
    drawn = [draw.choices(ids, k=draw.randint(1, 50)) for _ in range(BODIES + histories)]
    questions = ({"histories": drawn[place : place + histories]} for place in range(BODIES))
    return [post(json.dumps(question).encode()) for question in questions]


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description="Load-test the HTTP example on this machine.")
    parser.add_argument("folder", type=Path, help="made by `lea export --onnx`")
    parser.add_argument("--clients", type=int, default=50)
    parser.add_argument("--histories", type=int, nargs="+", default=[1, 32], help="in every request")
    parser.add_argument("--seconds", type=float, default=10)
    given = parser.parse_args()
    with server(given.folder) as port:
        for histories in given.histories:
            line = asyncio.run(load(port, bodies(given.folder, histories), given.clients, given.seconds))
            print(f"{given.clients} clients, {histories} histories each: {line}")


if __name__ == "__main__":
    main()
