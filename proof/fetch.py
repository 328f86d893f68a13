"""The suites' sources, from package registries, kept between runs, and environments of their own."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tarfile
from collections.abc import Mapping, Sequence
from pathlib import Path


class Missing(RuntimeError):
    """A suite's source or tool cannot be had; the text says what was tried."""


def call(
    command: Sequence[str | Path],
    *,
    cwd: Path | None = None,
    env: Mapping[str, str] | None = None,
    check: bool = True,
    timeout: float = 3600,
) -> subprocess.CompletedProcess[str]:
    """Run to the end, niced, with its output. Raises Missing where `check` and it fails."""
    done = subprocess.run(
        ["nice", *map(str, command)],
        cwd=cwd,
        env=dict(env) if env is not None else None,
        capture_output=True,
        text=True,
        errors="replace",
        timeout=timeout,
    )
    if check and done.returncode != 0:
        raise Missing(f"{' '.join(map(str, command))} failed:\n{(done.stdout + done.stderr)[-3000:]}")
    return done


class Library:
    """Where sources are kept: `proof/run` makes it in a folder of its own, which may be deleted any time."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)

    def sdist(self, project: str, version: str) -> Path:
        """The unpacked source distribution from PyPI. Only files are taken; its build never runs here."""
        home = self.folder / f"{project}-{version}"
        if not home.exists():
            down = self.folder / "down"
            # The system's pip: an environment made by uv has none.
            command = [_pip(), "download", "-q", "--no-deps", "--no-binary", project, "-d", down]
            call([*command, f"{project}=={version}"], timeout=300)
            archive = next(down.glob(f"{project}-{version}.tar.gz"))
            _unpack(archive, home)
        return home

    def environment(self, name: str, *requirements: str) -> Path:
        """The python of a virtual environment with these requirements."""
        home = self.folder / f"env-{name}"
        wanted = "\n".join(requirements)
        mark = home / "requirements"
        if not mark.exists() or mark.read_text() != wanted:
            uv = shutil.which("uv") or str(Path(".venv-tools/bin/uv").absolute())
            call([uv, "venv", "-q", "--clear", "--python", sys.executable, home])
            call([uv, "pip", "install", "-q", "--python", home / "bin/python", *requirements], timeout=900)
            mark.write_text(wanted)
        return home / "bin/python"

    def go_module(self, path: str, version: str) -> Path:
        """A writable copy of a Go module with its tests."""
        home = self.folder / f"{path.replace('/', '-')}-{version}"
        if not home.exists():
            call(["go", "mod", "download", f"{path}@{version}"], cwd=self._scratch(), timeout=600)
            cache = call(["go", "env", "GOMODCACHE"]).stdout.strip()
            shutil.copytree(Path(cache) / f"{path}@{version}", home)
            call(["chmod", "-R", "u+w", home])
        return home

    def node_modules(self, *packages: str) -> Path:
        """A folder with these npm packages installed."""
        home = self.folder / "node"
        mark = home / "packages"
        if not mark.exists() or mark.read_text() != "\n".join(packages):
            home.mkdir(exist_ok=True)
            (home / "package.json").write_text('{"private": true}')
            call(["npm", "install", "--silent", "--no-audit", "--no-fund", *packages], cwd=home, timeout=600)
            mark.write_text("\n".join(packages))
        return home

    def jar(self, artifact: str) -> Path:
        """A Maven artifact, group:name:version."""
        group, name, version = artifact.split(":")
        file = f"{name}-{version}.jar"
        home = self.folder / file
        if not home.exists():
            call(["mvn", "-q", "dependency:get", f"-Dartifact={artifact}", "-Dtransitive=false"], timeout=600)
            shutil.copy(
                Path.home() / ".m2/repository" / group.replace(".", "/") / name / version / file, home
            )
        return home

    def debian_source(self, package: str, version: str) -> Path:
        """The upstream source of a Debian package, in this very version."""
        home = self.folder / f"{package}-{version}"
        if not home.exists():
            apt = self.folder / "apt"
            for name in ("lists/partial", "cache"):
                (apt / name).mkdir(parents=True, exist_ok=True)
            lines = [
                f"deb-src http://deb.debian.org/{archive} main\n"
                for archive in ("debian bookworm", "debian-security bookworm-security")
            ]
            (apt / "sources").write_text("".join(lines))
            options = [f"Dir::Etc::sourcelist={apt}/sources", "Dir::Etc::sourceparts=/dev/null"]
            options += [f"Dir::State::lists={apt}/lists", f"Dir::Cache={apt}/cache"]
            get = ["apt-get", "-q", *(part for option in options for part in ("-o", option))]
            call([*get, "update"], timeout=300)
            call([*get, "source", "--download-only", f"{package}={version}"], cwd=apt, timeout=600)
            _unpack(next(apt.glob(f"{package}_*.orig.tar.*")), home)
        return home

    def _scratch(self) -> Path:
        scratch = self.folder / "go-scratch"
        scratch.mkdir(exist_ok=True)
        (scratch / "go.mod").write_text("module scratch\n")
        return scratch


def _pip() -> str:
    found = shutil.which("pip3", path=os.environ["PATH"].replace(str(Path(sys.executable).parent), ""))
    if found is None:
        raise Missing("pip is missing, which fetches source distributions: install python3-pip")
    return found


def _unpack(archive: Path, home: Path) -> None:
    part = home.with_suffix(".part")
    shutil.rmtree(part, ignore_errors=True)
    with tarfile.open(archive) as source:
        source.extractall(part, filter="data")
    (inner,) = part.iterdir()
    inner.rename(home)
    part.rmdir()
