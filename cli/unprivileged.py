"""Running PostgreSQL's programs as somebody who is not root, because as root they refuse to run.

An ordinary user just runs them. Root runs them in a user namespace, where files stay root's own, or where
the kernel or the container forbids that, as an unprivileged user who then owns the data.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import pwd
import shutil
import signal
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path


class PostgresError(RuntimeError):
    """PostgreSQL is missing or did not start; the text says why and what to do."""


@dataclass(frozen=True, slots=True)
class Jail:
    """How to start a PostgreSQL program as somebody who is not root: a command prefix, or a user."""

    prefix: tuple[str, ...] = ()
    uid: int | None = None
    gid: int | None = None

    def run(
        self, command: list[str | Path], env: Mapping[str, str], cwd: Path
    ) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*self.prefix, *map(str, command)],
            env=env,
            cwd=cwd,
            user=self.uid,
            group=self.gid,
            extra_groups=[] if self.uid is not None else None,
            capture_output=True,
            text=True,
            check=False,
        )

    def start(
        self, command: list[str | Path], env: Mapping[str, str], cwd: Path, log: Path
    ) -> subprocess.Popen[bytes]:
        # A session of its own keeps the terminal's Ctrl-C away, so that we stop it in order.
        with log.open("ab") as output:
            return subprocess.Popen(
                [*self.prefix, *map(str, command)],
                env=env,
                cwd=cwd,
                user=self.uid,
                group=self.gid,
                extra_groups=[] if self.uid is not None else None,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
                # A thread that forks while another holds a lock may hang; this function takes none.
                preexec_fn=die_with_parent if sys.platform == "linux" else None,  # noqa: PLW1509
            )

    def own(self, path: Path) -> None:
        if self.uid is not None and self.gid is not None:
            os.chown(path, self.uid, self.gid)


_libc = ctypes.CDLL(None, use_errno=True) if sys.platform == "linux" else None


def die_with_parent() -> None:
    """In the child: a fast shutdown when we are killed without a chance to stop it (prctl(2))."""
    if _libc is not None:
        _libc.prctl(1, signal.SIGINT)  # PR_SET_PDEATHSIG


@cache
def _namespace_prefix() -> tuple[str, ...]:
    """`unshare` with our uid shown as another one; empty where the kernel or container forbids it."""
    unshare = shutil.which("unshare")
    if unshare is None:
        return ()
    prefix = (unshare, "--user", f"--map-user={_unprivileged().pw_uid}")
    tried = subprocess.run([*prefix, "true"], capture_output=True, check=False)
    return prefix if tried.returncode == 0 else ()


def _unprivileged() -> pwd.struct_passwd:
    for name in ("postgres", "nobody"):
        with contextlib.suppress(KeyError):
            return pwd.getpwnam(name)
    raise PostgresError("PostgreSQL refuses to run as root, and there is no user “nobody” to run it as.")


def jail_for(home: Path) -> Jail:
    """The way to run in `home`. Data that exists stays with the user who owns it."""
    if os.geteuid() != 0:
        return Jail()
    data = home / "data"
    if data.exists() and (owner := data.stat()).st_uid != 0:
        return Jail(uid=owner.st_uid, gid=owner.st_gid)
    if prefix := _namespace_prefix():
        return Jail(prefix=prefix)
    user = _unprivileged()
    for folder in home.absolute().parents:
        if not folder.stat().st_mode & 0o001:
            raise PostgresError(
                f"PostgreSQL refuses to run as root, and the user {user.pw_name} cannot enter {folder}.\n"
                f"Run this as an ordinary user, or from a folder that others may enter (chmod o+x {folder})."
            )
    return Jail(uid=user.pw_uid, gid=user.pw_gid)
