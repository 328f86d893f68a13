"""PostgreSQL's own programs: psql's commands, pgbench's modes, dump and restore."""

from __future__ import annotations

import hashlib
import re
import shutil
from pathlib import Path

from cli.embedded_postgres import find_client
from proof.fetch import Library, Missing, call
from proof.house import House, Way
from proof.outcomes import FAILED, PASSED, Outcome, Outcomes

_HERE = Path(__file__).parent


def _program(name: str) -> Path:
    found = find_client(name)
    if found is None:
        raise Missing(f"{name} is missing: install postgresql")
    return found


def psql(library: Library | None, house: House, way: Way, folder: Path) -> Outcomes:
    """Each command of psql.txt by itself; what it prints must be the same."""
    house.direct.fresh("psql")
    env = way.environment(PGDATABASE="psql", PGAPPNAME="proof", PSQL_PAGER="", COLUMNS="120")
    program = _program("psql")
    script = [program, "-Xqv", "ON_ERROR_STOP=1", "-f", _HERE / "sample.sql"]
    call(script, env={**env, **house.direct.env, "PGDATABASE": "psql"})
    found: Outcomes = {}
    for block in (_HERE / "psql.txt").read_text().split("\n--\n"):
        script = folder / "script.sql"
        script.write_text(block + "\n")
        done = call([program, "-Xf", script], env=env, cwd=folder, check=False, timeout=60)
        said = (done.stdout + done.stderr).replace(str(folder), ".").replace(str(way.port), "PORT")
        said = re.sub(r"(PID|lo_import) \d+", r"\1 N", said)
        name = block.strip().splitlines()[0]
        found[name] = Outcome(PASSED if done.returncode == 0 else FAILED, said)
    return found


def pgbench(library: Library | None, house: House, way: Way, folder: Path) -> Outcomes:
    """All modes and built-in scripts with --report; the number of transactions must be the same."""
    house.direct.fresh("pgbench")
    env = way.environment(PGDATABASE="pgbench")
    program = _program("pgbench")
    call([program, "-i", "-q", "-s", "2", "--foreign-keys", "--partitions=3"], env=env)
    found: Outcomes = {}
    pipeline = folder / "pipeline.sql"
    pipeline.write_text(
        "\\set id random(1, 200000)\n\\startpipeline\nBEGIN;\n"
        "SELECT abalance FROM pgbench_accounts WHERE aid = :id;\n"
        "UPDATE pgbench_accounts SET abalance = abalance + 1 WHERE aid = :id;\nEND;\n\\endpipeline\n"
        "SELECT count(*) AS n FROM pgbench_branches \\gset\n\\if :n > 0\nSELECT :n;\n\\endif\n"
    )
    scripts = {it: [f"-b{it}"] for it in ("tpcb-like", "simple-update", "select-only")}
    scripts["pipeline"] = ["-f", str(pipeline)]
    for mode in ("simple", "extended", "prepared"):
        for name, script in scripts.items():
            if name == "pipeline" and mode == "simple":
                continue  # pgbench allows a pipeline in the extended protocol only
            for more in ([], ["--connect"]):
                command = [
                    program,
                    "-n",
                    "-M",
                    mode,
                    *script,
                    "-c4",
                    "-j2",
                    "-t20",
                    "--report-per-command",
                    *more,
                ]
                done = call(command, env=env, check=False, timeout=120)
                counted = re.search(r"actually processed: (\S+)", done.stdout)
                failed = re.search(r"failed transactions: (\S+)", done.stdout)
                said = f"{counted and counted[1]} processed, {failed and failed[1]} failed"
                label = f"{mode} {name} {' '.join(more)}".strip()
                good = done.returncode == 0 and "aborted" not in done.stderr
                found[label] = Outcome(PASSED if good else FAILED, said if good else said + done.stderr)
    return found


def dump(library: Library | None, house: House, way: Way, folder: Path) -> Outcomes:
    """Dump and restore in every format through the way; what comes back must dump to the same bytes."""
    house.direct.fresh("dump_from")
    env = way.environment()
    before = {**env, **house.direct.env, "PGDATABASE": "dump_from"}
    call([_program("psql"), "-Xqv", "ON_ERROR_STOP=1", "-f", _HERE / "sample.sql"], env=before)
    found: Outcomes = {}
    first = _plain_dump("dump_from", env)
    found["plain dump"] = Outcome(PASSED, _digest(first))
    formats = {"custom": ["-Fc"], "tar": ["-Ft"], "directory": ["-Fd"], "parallel": ["-Fd", "-j3"]}
    formats["inserts"] = ["-Fc", "--inserts"]
    formats["columns"] = ["-Fc", "--column-inserts", "--rows-per-insert=7"]
    for name, options in formats.items():
        house.direct.fresh("dump_to")
        at = folder / name
        steps = [[_program("pg_dump"), *options, "-f", at, "dump_from"]]
        jobs = ["-j3"] if name == "parallel" else []
        steps.append([_program("pg_restore"), *jobs, "--exit-on-error", "-d", "dump_to", at])
        done = [call(step, env=env, check=False) for step in steps]
        again = _plain_dump("dump_to", env)
        good = all(it.returncode == 0 for it in done) and again == first
        said = _digest(again) + "".join(it.stderr for it in done)
        found[f"{name} round trip"] = Outcome(PASSED if good else FAILED, said)
    house.direct.fresh("dump_to")
    script = folder / "plain.sql"
    script.write_text(first)
    done_plain = call([_program("psql"), "-Xqf", script, "dump_to"], env=env, check=False)
    same = done_plain.returncode == 0 and _plain_dump("dump_to", env) == first
    found["plain round trip"] = Outcome(PASSED if same else FAILED, done_plain.stderr)
    globals_ = call([_program("pg_dumpall"), "--globals-only", "--no-role-passwords"], env=env, check=False)
    found["pg_dumpall --globals-only"] = Outcome(
        PASSED if globals_.returncode == 0 else FAILED,
        _digest(_unrestricted(globals_.stdout)) + globals_.stderr,
    )
    for program in ("vacuumdb", "reindexdb", "clusterdb", "pg_isready", "pg_amcheck", "vacuumlo", "oid2name"):
        if find_client(program) is not None:
            options_ = {"vacuumlo": ["dump_to"], "pg_amcheck": ["--install-missing", "dump_to"]}.get(
                program, ["-d", "dump_to"]
            )
            ran = call([_program(program), *options_], env=env, check=False)
            status = PASSED if ran.returncode == 0 else FAILED
            found[program] = Outcome(
                status, "" if program in ("oid2name", "pg_isready") else ran.stdout + ran.stderr
            )
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(exist_ok=True)
    return found


def _plain_dump(database: str, env: dict[str, str]) -> str:
    return _unrestricted(call([_program("pg_dump"), database], env=env, check=False).stdout)


def _unrestricted(text: str) -> str:
    """Without the random key that newer pg_dump puts into each plain dump."""
    return re.sub(r"^\\(un)?restrict .*$", "", text, flags=re.MULTILINE)


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest() if text else "nothing"
