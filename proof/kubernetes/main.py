"""`proof/kubernetes/run`: the tests at a real API server, its traffic recorded, its resolver asked."""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from proof.kubernetes.build import HERE, build
from proof.kubernetes.house import cluster

TOP = Path(__file__).parents[2]
TESTS = TOP / "tests" / "proxy" / "kubernetes"
UNSERVED = "tests/proxy/kubernetes/test_kubectl.py::test_a_terminal_becomes_an_asciicast"
"""The kubelet here does not end a terminal that could still be typed into; the replay has one that does."""
ALL = (str(TESTS), str(TOP / "tests" / "journeys" / "test_cluster.py"), str(HERE))


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="proof/kubernetes/run", description=__doc__, epilog="Further words are pytest's."
    )
    parser.add_argument(
        "--cache", type=Path, default=TOP / ".proof" / "kubernetes", help="where programs are kept"
    )
    parser.add_argument("--tests", action="append", default=[], help="nothing: all that are for a cluster")
    options, chosen = parser.parse_known_args()
    programs = build(options.cache.absolute())
    _resolve(programs.resolver)
    with (
        tempfile.TemporaryDirectory(prefix="portcullis-cluster-") as folder,
        cluster(programs, Path(folder)) as it,
    ):
        env = {**os.environ, "PORTCULLIS_TEST_CLUSTER": f"{it.address},{it.token},{it.ca}"}
        words = [
            sys.executable,
            "-m",
            "pytest",
            "-q",
            f"--deselect={UNSERVED}",
            *chosen,
            *(options.tests or ALL),
        ]
        return subprocess.run(words, cwd=TOP, env=env).returncode


def _resolve(resolver: Path) -> None:
    """Have the API server's own resolver read the requests of requests.jsonl."""
    from proof.kubernetes.requests import requests

    asked = "".join(json.dumps({"Method": method, "Target": target}) + "\n" for method, target in requests())
    answers = subprocess.run([resolver], input=asked, check=True, capture_output=True, text=True).stdout
    (TESTS / "resolved.jsonl").write_text(answers)


if __name__ == "__main__":
    sys.exit(main())
