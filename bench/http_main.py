"""`bench/http`: wrk directly, through nginx, through the gate and through proxies in Python.

Rounds, not runs: in each round every way is run once, in a new random order, and only runs of the same round
are compared. Large bodies come by curl; idle connections by a client of our own.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import random
import re
import resource
import shutil
import ssl
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from bench import http_ways, report
from bench.http_ways import HOST, LARGE, SMALL, Way
from bench.measure import calibrate, cpu_seconds, found, resident

PAGE = Path(__file__).parents[1] / "docs" / "explanation" / "performance.md"
WAYS = ("direct", "nginx", "gate1", "gate2", "aiohttp", "mitmproxy")
_UNITS = {"us": 1.0, "ms": 1e3, "s": 1e6, "m": 6e7}


@dataclass
class Load:
    """What one run measured: requests a second, latencies in µs, CPU µs a request of what is in between."""

    way: str
    connections: int
    round: int
    rate: float
    p50: float
    p99: float
    cpu: float
    memory: int
    speed: float


@dataclass
class Haul:
    """One large body: MB/s, and CPU seconds of what is in between."""

    way: str
    round: int
    rate: float
    cpu: float


@dataclass
class Crowd:
    """Many idle connections: memory of each, and the median latency of a request beside them, in µs."""

    way: str
    connections: int
    memory: float
    p50: float


def main(arguments: Sequence[str] | None = None) -> int:
    options = _options(arguments)
    if shutil.which("wrk") is None or shutil.which("nginx") is None:
        print("wrk or nginx is missing: install them (Debian: apt install wrk nginx-light).", file=sys.stderr)
        return 1
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))  # nginx takes it over
    chance = random.Random(options.seed)
    with tempfile.TemporaryDirectory(prefix="portcullis-bench-") as folder, contextlib.ExitStack() as stack:
        files = stack.enter_context(http_ways.service(Path(folder) / "bench", options.large << 20))
        ways = [_way(name, files, stack) for name in options.ways]
        loads = [
            _load(way, count, number, options.seconds)
            for number in range(options.rounds)
            for count in options.connections
            for way in chance.sample(ways, len(ways))
        ]
        hauls = [
            _haul(way, number, files.large)
            for number in range(options.hauls)
            for way in chance.sample(ways, len(ways))
        ]
        crowds = [
            asyncio.run(_crowd(way, options.idle, options.seconds))
            for way in ways
            if way.pids() and options.idle
        ]
    text = _text(loads, hauls, crowds, [way.name for way in ways], options.large)
    print(text)
    if options.write:
        report.write(PAGE, "http", text)
    return 0


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="bench/http", description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=int, default=3, help="length of one run")
    parser.add_argument("--connections", type=lambda t: [int(n) for n in t.split(",")], default=[1, 8, 32])
    parser.add_argument("--ways", type=lambda t: t.split(","), default=list(WAYS), help=",".join(WAYS))
    parser.add_argument("--hauls", type=int, default=5, help="rounds of a large body")
    parser.add_argument("--large", type=int, default=100, help="MB of that body")
    parser.add_argument("--idle", type=int, default=5000, help="idle keep-alive connections; 0: none")
    parser.add_argument("--write", action="store_true", help=f"put the tables into {PAGE.name}")
    parser.add_argument("--seed", type=int, default=1)
    return parser.parse_args(arguments)


def _way(name: str, files: http_ways.Files, stack: contextlib.ExitStack) -> Way:
    match name:
        case "direct":
            return http_ways.direct(files)
        case "nginx":
            return stack.enter_context(http_ways.nginx(files))
        case "gate1" | "gate2":
            return stack.enter_context(http_ways.gate(files, int(name[-1])))
        case "aiohttp":
            return stack.enter_context(http_ways.aiohttp_proxy(files))
        case "mitmproxy":
            return stack.enter_context(http_ways.mitmproxy(files))
    raise SystemExit(f"no such way: {name}")


def _load(way: Way, connections: int, number: int, seconds: int) -> Load:
    """One run of wrk. Raises AssertionError where an answer is wrong, or a request was not recorded."""
    speed = calibrate()
    recorded = way.recorded() if way.recorded else 0
    before = cpu_seconds(way.pids())
    headers = [part for line in way.headers for part in ("-H", line)]
    command = [
        "wrk",
        "-t1",
        f"-c{connections}",
        f"-d{seconds}s",
        "--latency",
        *headers,
        f"{way.address}/{SMALL}",
    ]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60 + seconds * 4)
    said = done.stdout + done.stderr
    assert done.returncode == 0, f"wrk through {way.name} failed:\n{said}"
    assert "Non-2xx" not in said, f"{way.name} answered wrongly:\n{said}"
    assert "Socket errors" not in said, f"{way.name} lost connections:\n{said}"
    count = int(found(re.compile(r"(\d+) requests in"), said))
    cpu = cpu_seconds(way.pids()) - before
    if way.recorded:
        _all_recorded(way, recorded, count)
    print(
        f"round {number + 1} {connections:3} connections {way.name:16} {count / seconds:9.0f}/s",
        file=sys.stderr,
    )
    return Load(
        way=way.name,
        connections=connections,
        round=number,
        rate=float(found(re.compile(r"Requests/sec:\s+([\d.]+)"), said)),
        p50=_latency(said, 50),
        p99=_latency(said, 99),
        cpu=cpu / count * 1e6,
        memory=sum(resident(pid) for pid in way.pids()),
        speed=speed,
    )


def _all_recorded(way: Way, before: int, count: int) -> None:
    """Every request is in the recording; those that wrk no longer waited for may be there as well."""
    assert way.recorded is not None
    deadline = time.monotonic() + 10
    while (written := way.recorded() - before) < count and time.monotonic() < deadline:
        time.sleep(0.05)
    assert written >= count, f"{way.name} recorded {written} requests of {count}"


def _latency(said: str, percent: int) -> float:
    found_ = re.search(rf"\s{percent}%\s+([\d.]+)(us|ms|s|m)\b", said)
    assert found_ is not None, said
    return float(found_[1]) * _UNITS[found_[2]]


def _haul(way: Way, number: int, large: int) -> Haul:
    before = cpu_seconds(way.pids())
    headers = [part for line in way.headers for part in ("-H", line)]
    form = "%{size_download} %{speed_download}"
    command = ["curl", "-sSk", *headers, "-o", "/dev/null", "-w", form, f"{way.address}/{LARGE}"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    size, rate = done.stdout.split()
    assert int(size) == large, f"{way.name} gave {size} bytes"
    return Haul(way.name, number, float(rate) / 1e6, cpu_seconds(way.pids()) - before)


async def _crowd(way: Way, count: int, seconds: int) -> Crowd:
    """Open `count` connections, ask once on each, leave them open, and measure one client beside them."""
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    port = int(way.address.rpartition(":")[2])
    lines = way.headers or (f"Host: {HOST}",)
    asked = f"GET /{SMALL} HTTP/1.1\r\n{''.join(line + chr(13) + chr(10) for line in lines)}\r\n".encode()
    before = sum(resident(pid) for pid in way.pids())
    writers: list[asyncio.StreamWriter] = []
    turn = asyncio.Semaphore(50)

    async def one() -> None:
        async with turn:
            reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=context)
            writer.write(asked)
            await reader.readuntil(b"]}")
            writers.append(writer)

    await asyncio.gather(*(one() for _ in range(count)))
    memory = (sum(resident(pid) for pid in way.pids()) - before) / count
    load = await asyncio.to_thread(_load, way, 1, 0, seconds)
    alive = sum(not writer.transport.is_closing() for writer in writers)
    assert alive == count, f"{way.name} kept {alive} of {count} connections"
    for writer in writers:
        writer.transport.abort()
    return Crowd(way.name, count, memory, load.p50)


# ------------------------------------------------------------------ telling


def _text(loads: list[Load], hauls: list[Haul], crowds: list[Crowd], names: list[str], large: int) -> str:
    paces = [load.speed for load in loads]
    text = (
        f"Measured {report.moment()}: `wrk` on {len(_small())} bytes over HTTPS, `curl` on {large} MB. "
        f"The calibration loop took {min(paces):.0f} to {max(paces):.0f} ms.\n\n"
        "| way | connections | requests/s | to nginx | p50 ms | p99 ms | CPU µs/request | memory MB |\n"
        "|---|---:|---:|---|---:|---:|---:|---:|\n"
    )
    for connections in sorted({load.connections for load in loads}):
        for name in names:
            mine = [it for it in loads if (it.way, it.connections) == (name, connections)]
            cells = [
                name,
                str(connections),
                f"{statistics.median(it.rate for it in mine):.0f}",
                _ratio([(it.round, it.rate) for it in mine], _of_nginx(loads, connections)),
                f"{statistics.median(it.p50 for it in mine) / 1000:.2f}",
                f"{statistics.median(it.p99 for it in mine) / 1000:.2f}",
                f"{statistics.median(it.cpu for it in mine):.0f}",
                f"{max(it.memory for it in mine) / 1e6:.0f}",
            ]
            text += f"| {' | '.join(cells)} |\n"
    if hauls:
        text += f"\n| way | MB/s of {large} MB | to nginx | CPU s |\n|---|---:|---|---:|\n"
        nginx = [(it.round, it.rate) for it in hauls if it.way == "nginx"]
        for name in names:
            mine_ = [it for it in hauls if it.way == name]
            rate = statistics.median(it.rate for it in mine_)
            ratio = _ratio([(it.round, it.rate) for it in mine_], nginx)
            text += f"| {name} | {rate:.0f} | {ratio} | {statistics.median(it.cpu for it in mine_):.2f} |\n"
    if crowds:
        text += "\n| way | idle connections | kB each | p50 ms beside them |\n|---|---:|---:|---:|\n"
        for crowd in crowds:
            text += f"| {crowd.way} | {crowd.connections} | {crowd.memory / 1000:.1f} | "
            text += f"{crowd.p50 / 1000:.2f} |\n"
    return text


def _small() -> str:
    return '{"dashboards": [' + ", ".join(f'{{"id": {n}}}' for n in range(80)) + "]}"


def _of_nginx(loads: list[Load], connections: int) -> list[tuple[int, float]]:
    return [(it.round, it.rate) for it in loads if (it.way, it.connections) == ("nginx", connections)]


def _ratio(mine: list[tuple[int, float]], other: list[tuple[int, float]]) -> str:
    """Median and range of the rates over the other's of the same round."""
    of = dict(other)
    ratios = sorted(rate / of[number] for number, rate in mine if number in of)
    if not ratios:
        return ""
    return f"{statistics.median(ratios):.2f} [{ratios[0]:.2f}..{ratios[-1]:.2f}]"


if __name__ == "__main__":
    sys.exit(main())
