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
HELM_TESTS = (
    "test_of_a_release_that_is_there_a_masked_role_sees_and_changes_nothing",
    "test_helm_installs_upgrades_lists_and_uninstalls",
    "test_where_secrets_are_masked_helm_is_told_so_before_it_does_anything",
)
ALL = (str(TESTS), str(TOP / "tests" / "journeys" / "test_cluster.py"), str(HERE))


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="proof/kubernetes/run", description=__doc__, epilog="Further words are pytest's."
    )
    parser.add_argument(
        "--cache", type=Path, default=TOP / ".proof" / "kubernetes", help="where programs are kept"
    )
    parser.add_argument("--tests", action="append", default=[], help="nothing: all that are for a cluster")
    parser.add_argument("--helm", action="store_true", help="helm as well: some minutes more, once")
    options, chosen = parser.parse_known_args()
    programs = build(options.cache.absolute(), helm=options.helm)
    _resolve(programs.resolver)
    with (
        tempfile.TemporaryDirectory(prefix="portcullis-cluster-") as folder,
        cluster(programs, Path(folder)) as it,
    ):
        env = {
            **os.environ,
            "PORTCULLIS_TEST_CLUSTER": f"{it.address},{it.token},{it.ca}",
            "PORTCULLIS_TEST_CLIENT": str(programs.client),
            "PORTCULLIS_TEST_HELM": str(programs.helm or ""),
        }
        words = [sys.executable, "-m", "pytest", "-q", *chosen, *(options.tests or ALL)]
        if programs.helm is None:
            words += [
                f"--deselect={HERE.relative_to(TOP) / 'test_clients.py'}::{name}" for name in HELM_TESTS
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
