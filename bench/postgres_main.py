"""`bench/postgres`: pgbench -S directly, through PgBouncer, through HAProxy and through the gate.

Rounds, not runs: in each round every path runs once for each mode and number of clients, in a new random
order, and only runs of the same round are compared.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import pstats
import random
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from bench import bulk, crowd, peers, report, shapes
from bench.gate import gate
from bench.measure import Run, Way, run
from cli.embedded_postgres import EmbeddedPostgres, Server, find_client

PAGE = Path(__file__).parents[1] / "docs" / "explanation" / "performance.md"
MODES = ("simple", "extended", "prepared")


def main(arguments: Sequence[str] | None = None) -> int:
    options = _options(arguments)
    pgbench = find_client("pgbench")
    if pgbench is None:
        print("pgbench is missing: install it (Debian: apt install postgresql).", file=sys.stderr)
        return 1
    if options.profile:
        return _profile(options, str(pgbench))
    with tempfile.TemporaryDirectory(prefix="portcullis-bench-") as folder:
        Path(folder).chmod(0o755)  # PgBouncer runs as nobody
        with _target(Path(folder), options, str(pgbench)) as server, contextlib.ExitStack() as stack:
            ways = _ways(server, Path(folder), stack, options)
            if options.bulk or options.masked or options.sessions or options.connections or options.shapes:
                print(_large(ways, options, str(pgbench)))
                return 0
            paths = [way.name for way in ways]
            runs = _rounds(ways, options, str(pgbench))
    tls = "TLS on every leg" if options.tls else "no TLS"
    section = "postgres-quick" if options.quick else "postgres-tls" if options.tls else "postgres-plain"
    text = f"{report.heading(runs, f'`pgbench -S`, scale {options.scale}, {tls},')}\n\n"
    text += report.table(runs, paths, "PgBouncer")
    print(text)
    if options.write:
        report.write(PAGE, section, text)
    return 0


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="bench/postgres", description=__doc__)
    parser.add_argument("--rounds", type=int, default=6)
    parser.add_argument("--seconds", type=int, default=3, help="length of one run")
    parser.add_argument("--transactions", type=int, help="of each client, instead of --seconds")
    parser.add_argument("--clients", type=lambda text: [int(n) for n in text.split(",")])
    parser.add_argument("--modes", type=lambda text: text.split(","))
    parser.add_argument(
        "--paths", type=lambda text: text.split(","), help="direct,pgbouncer,haproxy,gate1,gate2"
    )
    parser.add_argument("--scale", type=int, default=10, help="pgbench scale: 100,000 rows each")
    parser.add_argument("--plain", dest="tls", action="store_false", help="without TLS: the peers only")
    parser.add_argument("--write", action="store_true", help=f"put the table into {PAGE.name}")
    parser.add_argument(
        "--quick",
        action="store_true",
        help="the rows that matter most: simple and prepared, 8 and 32 clients, no HAProxy; nine minutes",
    )
    parser.add_argument(
        "--profile", action="store_true", help="run only one gate worker, and print where its time goes"
    )
    parser.add_argument("--bulk", action="store_true", help="large results instead of small transactions")
    parser.add_argument("--masked", action="store_true", help="large results with 0, 1 and 3 masked columns")
    parser.add_argument(
        "--sessions",
        type=int,
        default=0,
        help="this many idle sessions: their memory, their entry, their cut",
    )
    parser.add_argument("--connections", action="store_true", help="how many enter and leave in a second")
    parser.add_argument(
        "--shapes", type=int, default=0, help="this many statements that differ in more than constants"
    )
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args(arguments)
    options.clients = options.clients or ([8, 32] if options.quick else [1, 8, 32])
    options.modes = options.modes or (["simple", "prepared"] if options.quick else list(MODES))
    if options.quick and not options.paths:
        options.paths = ["direct", "pgbouncer", "gate1", "gate2"]
    return options


def _large(ways: list[Way], options: argparse.Namespace, pgbench: str) -> str:
    """What `--bulk`, `--masked`, `--sessions`, `--connections` or `--shapes` asks for, as a table that
    `--write` puts into the page.
    """
    when = report.moment()
    if options.masked:
        hauls = bulk.rounds(ways, options.rounds, random.Random(options.seed), bulk.MASKED)
        paces = [haul.speed for haul in hauls]
        text = f"Measured {when}; {options.rounds} rounds of a million rows of five columns, psql as client. "
        text += f"The calibration loop took {min(paces):.0f} to {max(paces):.0f} ms.\n\n"
        section, text = (
            "postgres-masked",
            text + bulk.masked_table(hauls, [way.name for way in ways], "PgBouncer"),
        )
    elif options.bulk:
        hauls = bulk.rounds(ways, options.rounds, random.Random(options.seed))
        paces = [haul.speed for haul in hauls]
        text = f"Measured {when}; {options.rounds} rounds of a million rows, psql as the client. The "
        text += f"calibration loop took {min(paces):.0f} to {max(paces):.0f} ms.\n\n"
        section, text = "postgres-bulk", text + bulk.table(hauls, [way.name for way in ways], "PgBouncer")
    elif options.connections:
        entries = crowd.entries(ways, options.rounds, random.Random(options.seed), pgbench, options.seconds)
        section, text = "postgres-connections", f"Measured {when}; {options.rounds} rounds.\n\n" + entries
    elif options.shapes:
        passes = shapes.rounds(ways, options.shapes, pgbench)
        section, text = "postgres-shapes", f"Measured {when}.\n\n" + shapes.table(passes)
    else:
        behind = [way for way in ways if way.pids()]
        crowds = [
            asyncio.run(crowd.measure(way, options.sessions, pgbench, options.seconds)) for way in behind
        ]
        section, text = "postgres-sessions", f"Measured {when}.\n\n" + crowd.table(crowds)
    if options.write:
        report.write(PAGE, section, text)
    return text


def _profile(options: argparse.Namespace, pgbench: str) -> int:
    """cProfile slows Python code and not C code: the order of the lines says more than their seconds."""
    with tempfile.TemporaryDirectory(prefix="portcullis-bench-") as folder:
        statistics = Path(folder) / "profile"
        with (
            _target(Path(folder), options, pgbench) as server,
            gate(server, Path(folder) / "gate", 1, statistics) as way,
        ):
            _rounds([way], options, pgbench)
        pstats.Stats(str(statistics)).sort_stats("tottime").print_stats(30)
    return 0


@contextlib.contextmanager
def _target(folder: Path, options: argparse.Namespace, pgbench: str) -> Iterator[Server]:
    """A PostgreSQL that takes clients with and without TLS, with pgbench's tables in it."""
    cluster = EmbeddedPostgres(
        folder / "postgres",
        durable=False,
        plain=True,
        settings={
            "max_connections": str(300 + 2 * options.sessions),
            "shared_buffers": "256MB",
            "autovacuum": "off",
        },
    )
    try:
        server = cluster.start()
        psql = str(find_client("psql"))
        make = [
            f"CREATE ROLE {peers.USER} LOGIN PASSWORD '{peers.PASSWORD}'",
            f"CREATE DATABASE {peers.DATABASE} OWNER {peers.USER}",
        ]
        for sql in make:
            subprocess.run([psql, "-Xqc", sql], env={**os.environ, **server.libpq()}, check=True)
        filling = [pgbench, "-i", "-q", "-s", str(options.scale)]
        env = peers.client_env(server.port, server.ca)
        subprocess.run(filling, env={**os.environ, **env}, check=True, capture_output=True)
        # The gate masks a column that pgbench does not read; a mask on a missing table would refuse all.
        users = "CREATE TABLE public.users (id int, email text)"
        subprocess.run([psql, "-Xqc", users], env={**os.environ, **env}, check=True)
        for count in bulk.COUNTS if options.masked else ():
            people = bulk.PEOPLE % (count, count)
            subprocess.run([psql, "-Xqc", people], env={**os.environ, **env}, check=True)
        yield server
    finally:
        cluster.stop()


def _ways(
    server: Server, folder: Path, stack: contextlib.ExitStack, options: argparse.Namespace
) -> list[Way]:
    tls = options.tls
    chosen = options.paths or ["direct", "pgbouncer", "haproxy", *(("gate1", "gate2") if tls else ())]
    ways = []
    for name in chosen:
        if name == "direct":
            ways.append(peers.direct(server, tls=tls))
        elif name == "pgbouncer":
            ways.append(stack.enter_context(peers.pgbouncer(server, folder / name, tls=tls)))
        elif name == "haproxy":
            ways.append(stack.enter_context(peers.haproxy(server, folder / name, tls=tls)))
        elif name in ("gate1", "gate2"):
            masks = bulk.MASKS if options.masked else None
            ways.append(stack.enter_context(gate(server, folder / name, workers=int(name[-1]), masks=masks)))
        else:
            raise SystemExit(f"no such path: {name}")
    return ways


def _rounds(ways: list[Way], options: argparse.Namespace, pgbench: str) -> list[Run]:
    chance = random.Random(options.seed)
    runs = []
    for number in range(options.rounds):
        for mode in options.modes:
            for clients in options.clients:
                for way in chance.sample(ways, len(ways)):
                    done = run(
                        way,
                        mode,
                        clients,
                        number,
                        pgbench=pgbench,
                        seconds=options.seconds,
                        transactions=options.transactions,
                    )
                    runs.append(done)
                    print(
                        f"round {number + 1} {mode:9} {clients:3} clients {way.name:12} {done.tps:9.0f} tps",
                        file=sys.stderr,
                    )
    return runs


if __name__ == "__main__":
    sys.exit(main())
