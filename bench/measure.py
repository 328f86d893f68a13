"""One pgbench run through one path: its speed and latencies, and the CPU and memory of what is in between."""

from __future__ import annotations

import hashlib
import os
import re
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

_TICK = os.sysconf("SC_CLK_TCK")
_DONE = re.compile(r"number of transactions actually processed: (\d+)")
TPS = re.compile(r"tps = ([\d.]+) \((?:without initial connection time|including reconnection times)\)")
_FAILED = re.compile(r"number of failed transactions: (\d+)")


@dataclass(frozen=True)
class Way:
    """A way from pgbench to PostgreSQL. `env` is the client's PG*; `pids` are the processes in between."""

    name: str
    env: Mapping[str, str]
    pids: Callable[[], list[int]] = list
    recorded: Callable[[], int] | None = None
    """How many executions of pgbench's statement the path has recorded so far, where it records."""
    release: Callable[[], object] | None = None
    """Gives the grant back, where there is one; nobody enters afterwards."""


@dataclass
class Run:
    """What one run measured. `speed` is the calibration before and after, in ms: the machine's own pace."""

    path: str
    mode: str
    clients: int
    round: int
    tps: float
    transactions: int
    p50: float
    p99: float
    cpu: float
    """CPU microseconds a transaction of the processes in between."""
    memory: int
    """Resident bytes of the processes in between, at the end of the run."""
    speed: tuple[float, float] = field(default=(0.0, 0.0))


def calibrate() -> float:
    """Milliseconds for a fixed piece of work: hashing and a Python loop, like what the paths do."""
    start = time.perf_counter()
    digest = b""
    for number in range(20_000):
        digest = hashlib.sha256(digest + number.to_bytes(4, "big") * 16).digest()
        sum(digest)
    return (time.perf_counter() - start) * 1000


def run(
    path: Way, mode: str, clients: int, number: int, *, pgbench: str, seconds: int, transactions: int | None
) -> Run:
    """One run of `pgbench -S`. Raises AssertionError where pgbench fails or an execution is missing."""
    before = calibrate()
    recorded_before = path.recorded() if path.recorded else 0
    cpu_before = cpu_seconds(path.pids())
    limit = ["-t", str(transactions)] if transactions else ["-T", str(seconds)]
    with tempfile.TemporaryDirectory(prefix="portcullis-bench-") as folder:
        done = subprocess.run(
            [pgbench, "-S", "-n", "-M", mode, "-c", str(clients), "-j", str(min(clients, 2)), *limit, "-l"],
            cwd=folder,
            env={**os.environ, **path.env},
            capture_output=True,
            text=True,
            timeout=120 + seconds * 4,
        )
        cpu = cpu_seconds(path.pids()) - cpu_before
        memory = sum(resident(pid) for pid in path.pids())
        output = done.stdout + done.stderr
        assert done.returncode == 0, (
            f"pgbench through {path.name} ({mode}, {clients} clients) failed:\n{output}"
        )
        latencies = _latencies(Path(folder))
    count = int(found(_DONE, output))
    assert int(found(_FAILED, output)) == 0, output
    if path.recorded:
        _all_recorded(path, recorded_before, count)
    percentile = statistics.quantiles(latencies, n=100, method="inclusive")
    return Run(
        path=path.name,
        mode=mode,
        clients=clients,
        round=number,
        tps=float(found(TPS, output)),
        transactions=count,
        p50=percentile[49],
        p99=percentile[98],
        cpu=cpu / count * 1e6,
        memory=memory,
        speed=(before, calibrate()),
    )


def _all_recorded(path: Way, before: int, count: int) -> None:
    """The recording must hold as many executions as pgbench ran; its last lines may be on their way."""
    assert path.recorded is not None
    deadline = time.monotonic() + 30
    while (written := path.recorded() - before) < count and time.monotonic() < deadline:
        time.sleep(0.05)
    assert written == count, f"{path.name} recorded {written} executions of {count}"


def _latencies(folder: Path) -> list[float]:
    """Microseconds of every transaction, from pgbench's logs (client, number, latency, …)."""
    return [float(line.split()[2]) for log in folder.glob("pgbench_log.*") for line in log.open()]


def found(pattern: re.Pattern[str], text: str) -> str:
    """What `pattern` finds in pgbench's output. Raises AssertionError when it is not there."""
    match = pattern.search(text)
    assert match is not None, f"pgbench did not say {pattern.pattern}:\n{text}"
    return match[1]


def cpu_seconds(pids: list[int]) -> float:
    """User and system seconds of these processes so far (proc(5), fields 14 and 15 of stat)."""
    total = 0
    for pid in pids:
        fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
        total += int(fields[11]) + int(fields[12])
    return total / _TICK


def resident(pid: int) -> int:
    """Resident bytes of a process."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) * 1024
    return 0
