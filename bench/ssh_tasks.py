"""What is measured of each way: streams, files, how soon a command ends, and many sessions at once."""

from __future__ import annotations

import contextlib
import os
import random
import statistics
import subprocess
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from bench.measure import calibrate, cpu_seconds, resident
from bench.ssh_ways import SshWay

STREAMS = ("stream from the host", "stream to the host", "sftp get", "sftp put")
NEW, MULTIPLEXED = "new connection", "multiplexed"
LATENCIES = (NEW, MULTIPLEXED)


@dataclass(frozen=True)
class Taken:
    """One measurement. `seconds` are of the whole transfer (of `size` bytes), or the median of the commands.
    `cpu` are those of the processes in between; `speed` is the calibration before and after, in ms.
    """

    path: str
    task: str
    round: int
    seconds: float
    size: int
    cpu: float
    speed: tuple[float, float]


@dataclass(frozen=True)
class Plan:
    """How much of everything. `size` is in bytes; `commands` are run for one median."""

    size: int
    commands: int
    folder: Path


def rounds(ways: Sequence[SshWay], plan: Plan, count: int, chance: random.Random) -> Iterator[Taken]:
    """Every task through every way in each round, the ways in a new order each time."""
    zeros = plan.folder / "zeros"
    with zeros.open("wb") as file:
        file.truncate(plan.size)
    with contextlib.ExitStack() as stack:
        masters = {way.name: stack.enter_context(_master(way, plan.folder)) for way in ways}
        for number in range(count):
            for task in (*STREAMS, *LATENCIES):
                for way in chance.sample(ways, len(ways)):
                    yield _take(way, masters[way.name], task, number, plan)


@contextlib.contextmanager
def _master(way: SshWay, folder: Path) -> Iterator[list[str]]:
    """A connection that the transfers use, so that none of them pays for entering: ssh's options for it."""
    control = folder / f"control-{way.name.replace(' ', '-').replace(',', '')}"
    shared = ["-o", f"ControlPath={control}"]
    command = way.command("ssh", *shared, "-M", "-N", "target")
    with subprocess.Popen(command, stdin=subprocess.DEVNULL) as master:
        try:
            deadline = time.monotonic() + 20
            while not control.exists():
                if master.poll() is not None or time.monotonic() > deadline:
                    raise RuntimeError(f"ssh does not enter by {way.name}")
                time.sleep(0.02)
            yield shared
        finally:
            master.terminate()


def _take(way: SshWay, shared: list[str], task: str, number: int, plan: Plan) -> Taken:
    speed = calibrate()
    before = cpu_seconds(way.pids())
    seconds = _latency(way, shared, task, plan) if task in LATENCIES else _transfer(way, shared, task, plan)
    cpu = cpu_seconds(way.pids()) - before
    return Taken(
        way.name, task, number, seconds, 0 if task in LATENCIES else plan.size, cpu, (speed, calibrate())
    )


def _latency(way: SshWay, shared: list[str], task: str, plan: Plan) -> float:
    command = way.command("ssh", *(shared if task == MULTIPLEXED else []), "target", "true")
    return statistics.median(_timed(command) for _ in range(plan.commands))


def _transfer(way: SshWay, shared: list[str], task: str, plan: Plan) -> float:
    zeros, nothing = str(plan.folder / "zeros"), os.devnull
    match task:
        case "stream from the host":
            return _timed(way.command("ssh", *shared, "target", f"head -c {plan.size} /dev/zero"))
        case "stream to the host":
            with open(zeros, "rb") as source:
                return _timed(way.command("ssh", *shared, "target", f"head -c {plan.size} | wc -c"), source)
        case "sftp get":
            return _sftp(way, shared, f"get {zeros} {nothing}")
        case _:
            return _sftp(way, shared, f"put {zeros} {nothing}")


def _sftp(way: SshWay, shared: list[str], line: str) -> float:
    began = time.perf_counter()
    subprocess.run(
        way.command("sftp", *shared, "-q", "-b", "-", "target"),
        input=line.encode() + b"\n",
        stdout=subprocess.DEVNULL,
        check=True,
        timeout=600,
    )
    return time.perf_counter() - began


def _timed(command: list[str], source: object = subprocess.DEVNULL) -> float:
    began = time.perf_counter()
    subprocess.run(command, stdin=source, stdout=subprocess.DEVNULL, check=True, timeout=600)  # type: ignore[call-overload]
    return time.perf_counter() - began


# ------------------------------------------------------------------- many sessions


@dataclass(frozen=True)
class Many:
    """So many connections, each with a command that waits. Bytes and seconds; `cut` only behind the gate."""

    path: str
    sessions: int
    bytes_each: float
    entry_seconds: float
    """From the first ssh to the last command that runs, four entering at a time."""
    cpu_idle: float
    cut: float | None


_AT_ONCE = 4
_BASE = 5
"""Sessions that are open before counting begins: the first ones also load code."""


def many(way: SshWay, sessions: int, seconds: float) -> Many:
    """`seconds` is how long they are watched being idle."""
    held: list[subprocess.Popen[bytes]] = []
    try:
        _fill(way, held, _BASE)
        before = _memory(way)
        began = time.perf_counter()
        _fill(way, held, sessions)
        entered = time.perf_counter() - began
        each = (_memory(way) - before) / (sessions - _BASE)
        cpu = cpu_seconds(way.pids())
        time.sleep(seconds)
        idle = (cpu_seconds(way.pids()) - cpu) / seconds
        cut = _cut(way, held) if way.release else None
    finally:
        for it in held:
            it.kill()
            it.wait()
    return Many(way.name, sessions, each, entered, idle, cut)


def _fill(way: SshWay, held: list[subprocess.Popen[bytes]], up_to: int) -> None:
    while len(held) < up_to:
        command = way.command("ssh", "target", "echo in; cat")
        some = [
            subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
            )
            for _ in range(min(_AT_ONCE, up_to - len(held)))
        ]
        held += some
        for it in some:
            assert it.stdout is not None
            if it.stdout.readline() != b"in\n":
                raise RuntimeError(f"a session through {way.name} did not begin")


def _memory(way: SshWay) -> int:
    """Of the processes in between: what is resident, of pages that several share each one's part."""
    return sum(map(_proportional, way.pids()))


def _proportional(pid: int) -> int:
    try:
        text = Path(f"/proc/{pid}/smaps_rollup").read_text()
    except OSError:
        return resident(pid)
    return sum(int(line.split()[1]) * 1024 for line in text.splitlines() if line.startswith("Pss:"))


def _cut(way: SshWay, held: list[subprocess.Popen[bytes]]) -> float:
    """Seconds from the moment the grant is given back until the last client is out."""
    assert way.release is not None
    began = time.perf_counter()
    way.release()
    for it in held:
        it.wait(60)
    return time.perf_counter() - began
