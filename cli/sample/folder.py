"""The folder in which `./run` keeps everything, and which one run at a time may use."""

from __future__ import annotations

import fcntl
import os
import re
import secrets
import shlex
from importlib.resources import files
from pathlib import Path
from typing import IO

_HOST_ADDRESS = re.compile(r"(\n  web-1:\n(?:    .*\n)*?    address:\s*127\.0\.0\.1:)(\d+)")
_ADDRESS = re.compile(r"^(\s+address:\s*127\.0\.0\.1:)(\d+)", re.M)


class DemoError(RuntimeError):
    """The demo cannot start; the text says why and what to do."""


class DemoFolder:
    """Files of the demo in `path`, readable by their owner only. Made where missing."""

    def __init__(self, path: Path) -> None:
        self.path = path.absolute()
        self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.policy = self.path / "access.yaml"
        self.postgres = self.path / "postgres"
        self.broker = self.path / "broker"
        self.slack_state = self.path / "slack.json"
        self.log = self.path / "portcullis.log"
        self._lock: IO[str] | None = None

    def lock(self) -> None:
        """Keep the folder for this process until it ends. Raises DemoError where another one has it."""
        file = (self.path / "lock").open("a+")
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            file.seek(0)
            owner = file.read().strip() or "another process"
            file.close()
            raise DemoError(
                f"It is running already (process {owner}, folder {self.path}).\n"
                "Stop that one with Ctrl-C, or give this one a folder of its own: ./run --data OTHER"
            ) from error
        file.truncate(0)
        file.write(str(os.getpid()))
        file.flush()
        self._lock = file

    def secret(self, name: str) -> str:
        """A random secret of this name, the same at every start."""
        place = self.path / f"{name}.secret"
        if not place.exists():
            part = place.with_suffix(".part")
            part.touch(mode=0o600)
            part.write_text(secrets.token_urlsafe(24) + "\n")
            part.replace(place)
        return place.read_text().strip()

    def remembered_port(self) -> int:
        """The port at which access.yaml expects the target; the sample's where there is no file yet."""
        found = _ADDRESS.search(self._policy_text())
        return int(found[2]) if found else 0

    def write_policy(self, port: int, *, tls: bool) -> None:
        """Put access.yaml in place at the first start; later touch only the target's port in it."""
        text = self._policy_text()
        if not self.policy.exists() and not tls:
            text = text.replace("    tls: verify-full\n    ca: postgres/tls/ca.pem\n", "    tls: disable\n")
        text = _ADDRESS.sub(rf"\g<1>{port}", text, count=1)
        if not self.policy.exists() or text != self.policy.read_text(encoding="utf-8"):
            part = self.policy.with_suffix(".part")
            part.write_text(text, encoding="utf-8")
            part.replace(self.policy)

    def remembered_host(self) -> int:
        """The port at which access.yaml expects web-1; 0 where it does not know it."""
        found = _HOST_ADDRESS.search(self._policy_text())
        return int(found[2]) if found else 0

    def write_host(self, port: int, host_key: str, user: str) -> None:
        """Put web-1 into access.yaml at the first start; later touch only its port there."""
        text = self._policy_text()
        if _HOST_ADDRESS.search(text):
            text = _HOST_ADDRESS.sub(rf"\g<1>{port}", text, count=1)
        else:
            said = (files("cli.sample") / "host.yaml").read_text(encoding="utf-8")
            host, _, rules = said.format(port=port, host_key=host_key, user=user).partition("# rules\n")
            text = text.replace("\nrules:\n", f"\n{host}\nrules:\n", 1).rstrip("\n") + f"\n\n{rules}"
        part = self.policy.with_suffix(".part")
        part.write_text(text, encoding="utf-8")
        part.replace(self.policy)

    def write_environment(self, broker: str) -> None:
        """Leave for ./access where this house is, as lines that a shell reads. What is set already stays."""
        known = {
            "PORTCULLIS_BROKER": broker,
            "PORTCULLIS_POLICY": str(self.policy),
            "PORTCULLIS_DATA_DIR": str(self.broker),
            "PORTCULLIS_HOME": str(self.path / "login"),
        }
        lines = [f"export {name}=${{{name}:-{shlex.quote(value)}}}\n" for name, value in known.items()]
        (self.path / "environment.sh").write_text("".join(lines), encoding="utf-8")

    def postgres_version(self) -> str:
        """The major version of the target's data."""
        return (self.postgres / "data" / "PG_VERSION").read_text().strip()

    def _policy_text(self) -> str:
        sample = files("cli.sample") / "access.yaml"
        return (self.policy if self.policy.exists() else sample).read_text(encoding="utf-8")
