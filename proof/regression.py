"""PostgreSQL's own regression suite, pg_regress, of the very version that runs."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

from proof.fetch import Library, Missing, call
from proof.house import House, Way
from proof.outcomes import FAILED, PASSED, Outcome, Outcomes

_LINE = re.compile(
    r"^(?:test\s+|\s{5}|(?P<tap>not ok|ok)\s+\d+\s+[-+]\s+)(?P<name>\w+)\s+(?:\.\.\.\s+(?P<end>ok|FAILED))?"
)


def regress(library: Library, house: House, way: Way, folder: Path) -> Outcomes:
    """Each test's end, and what it printed: a failing test must fail in the same words through the gate."""
    source = _built(library, house)
    runner = Path("/usr/lib/postgresql/15/lib/pgxs/src/test/regress/pg_regress")
    house.direct.fresh("regression")
    tests = source / "src/test/regress"
    with house.direct.connect("regression") as connection:
        _as_pg_regress_does(connection.execute, "regression")
        for (name,) in connection.execute(
            "select rolname from pg_roles where rolname ~ '^regress'"
        ).fetchall():
            connection.execute(f'drop role "{name}"')
        connection.execute("drop tablespace if exists regress_tblspace")
    command = [runner, f"--inputdir={tests}", f"--dlpath={tests}", "--bindir=/usr/lib/postgresql/15/bin"]
    command += [f"--outputdir={folder}", "--max-concurrent-tests=40", "--max-connections=4", "--use-existing"]
    command += ["--dbname=regression", "--host=127.0.0.1", f"--port={way.port}", "--user=postgres"]
    done = call(
        [*command, f"--schedule={tests}/parallel_schedule"], cwd=folder, env=way.environment(), check=False
    )
    (folder / "output").write_text(done.stdout + done.stderr)
    return _outcomes(done.stdout, folder / "results", way)


def _as_pg_regress_does(execute: object, database: str) -> None:
    """The settings that pg_regress gives a database it makes itself."""
    settings = {
        "lc_messages": "C",
        "lc_monetary": "C",
        "lc_numeric": "C",
        "lc_time": "C",
        "bytea_output": "hex",
        "timezone_abbreviations": "Default",
    }
    for name, value in settings.items():
        execute(f"alter database {database} set {name} to '{value}'")  # type: ignore[operator]


def _outcomes(output: str, results: Path, way: Way) -> Outcomes:
    found: Outcomes = {}
    for line in output.splitlines():
        it = _LINE.match(line)
        if it is None or not (it["end"] or it["tap"]):
            continue
        status = PASSED if (it["end"] or it["tap"]) == "ok" else FAILED
        said = ""
        if status == FAILED:
            written = results / f"{it['name']}.out"
            said = written.read_text(errors="replace") if written.exists() else "nothing was written"
        found[it["name"]] = Outcome(
            status, said.replace(str(way.port), "PORT").replace(str(results.parent), ".")
        )
    return found


def _built(library: Library, house: House) -> Path:
    """The source with its test library made for this server."""
    version = _installed_version()
    source = library.debian_source("postgresql-15", version)
    if not (source / "src/test/regress/regress.so").exists():
        call(["./configure", "-q", "--without-readline", "--without-zlib"], cwd=source)
        call(["make", "-s", "-C", "src/backend", "generated-headers"], cwd=source)
        call(["make", "-s", "-C", "src/test/regress", "regress.so"], cwd=source)
        for name in ("autoinc", "refint"):  # triggers of contrib that the suite uses
            shutil.copy(f"/usr/lib/postgresql/15/lib/{name}.so", source / "src/test/regress")
    call(["chmod", "-R", "a+rX", library.folder])
    return source


def _installed_version() -> str:
    asked = subprocess.run(
        ["dpkg-query", "-W", "-f", "${Version}", "postgresql-15"], capture_output=True, text=True
    )
    if asked.returncode != 0:
        raise Missing("pg_regress comes with Debian's postgresql-15 and postgresql-client-15: install them")
    return asked.stdout
