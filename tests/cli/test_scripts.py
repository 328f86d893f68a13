"""The scripts at the top: what they set up, and what they say when something is missing."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

ROOT = Path(__file__).parents[2]


def bare_path(tmp_path: Path, *without: str) -> str:
    """A PATH with this machine's programs, except some."""
    folder = tmp_path / "bin"
    folder.mkdir()
    for place in os.environ["PATH"].split(":"):
        for program in Path(place).glob("*") if Path(place).is_dir() else ():
            if program.name not in without and not (folder / program.name).exists():
                (folder / program.name).symlink_to(program)
    return str(folder)


def test_a_missing_server_fails_the_whole_run_and_is_named(tmp_path: Path) -> None:
    path = bare_path(tmp_path, "redis-server")
    done = subprocess.run(
        [ROOT / "test", "--no-install", "--version"],
        env={**os.environ, "PATH": path},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 1
    assert "redis-server" in done.stderr
    assert "Nothing is skipped" in done.stderr


def test_without_uv_one_is_made_in_the_checkout(tmp_path: Path) -> None:
    """Up to the point where it would be installed: no index is asked."""
    checkout = tmp_path / "checkout"
    checkout.mkdir()
    shutil.copytree(ROOT / ".ci", checkout / ".ci")
    script = "set -euo pipefail; . .ci/environment.sh; find_uv"
    env = {
        **os.environ,
        "PATH": bare_path(tmp_path, "uv"),
        "PIP_INDEX_URL": "http://127.0.0.1:9/",
        "PIP_RETRIES": "0",
    }
    done = subprocess.run(["bash", "-c", script], cwd=checkout, env=env, capture_output=True, text=True)
    assert done.returncode == 1
    assert "Installing uv" in done.stderr
    assert "could not be installed" in done.stderr


def test_access_before_the_first_run_says_what_to_do(tmp_path: Path) -> None:
    shutil.copy(ROOT / "access", tmp_path / "access")
    done = subprocess.run([tmp_path / "access", "--help"], capture_output=True, text=True)
    assert done.returncode == 1
    assert "./run" in done.stderr
