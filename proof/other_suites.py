"""node-postgres and pgJDBC, whose packages hold no tests: ours, as broad as their use."""

from __future__ import annotations

import shutil
from pathlib import Path

from proof.fetch import Library, call
from proof.house import House, Way
from proof.outcomes import FAILED, PASSED, Outcome, Outcomes, from_junit

_HERE = Path(__file__).parent
PACKAGES = ("pg@8.23.1", "pg-cursor@2.22.0", "pg-query-stream@4.17.0", "pg-copy-streams@7.0.0")
JDBC = "org.postgresql:postgresql:42.7.8"


def node(library: Library, house: House, way: Way, folder: Path) -> Outcomes:
    home = library.node_modules(*PACKAGES)
    house.direct.fresh("node")
    shutil.copy(_HERE / "node" / "suite.js", home / "suite.js")
    report = folder / "report.xml"
    command = ["node", "--test-reporter=junit", f"--test-reporter-destination={report}", "suite.js"]
    done = call(command, cwd=home, env=way.environment(PGDATABASE="node"), check=False, timeout=300)
    (folder / "output").write_text(done.stdout + done.stderr)
    return from_junit(report)


def java(library: Library, house: House, way: Way, folder: Path) -> Outcomes:
    jar = library.jar(JDBC)
    house.direct.fresh("java")
    call(["javac", "-cp", jar, "-d", folder, _HERE / "java" / "Suite.java"])
    env = way.environment(PGDATABASE="java")
    done = call(["java", "-cp", f"{jar}:{folder}", "Suite"], env=env, check=False, timeout=300)
    (folder / "output").write_text(done.stdout + done.stderr)
    found: Outcomes = {}
    for line in done.stdout.splitlines():
        name, status, why = line.split("\t")
        found[name] = Outcome(PASSED if status == "passed" else FAILED, why)
    return found
