"""A real OpenSSH server on a free port of this machine, for the demo and for tests.

It takes nothing but certificates of the authorities it is given, lets its own user in and nobody else, and
ends with whoever started it.
"""

from __future__ import annotations

import getpass
import os
import shutil
import socket
import subprocess
import time
from pathlib import Path

from cli.embedded_postgres import free_port, next_free
from cli.unprivileged import die_with_parent

_PLACES = ("/usr/sbin/sshd", "/usr/local/sbin/sshd", "/opt/homebrew/sbin/sshd")
_SFTP = ("/usr/lib/openssh/sftp-server", "/usr/libexec/openssh/sftp-server", "/usr/libexec/sftp-server")
_SECONDS = 20.0


class SshdError(RuntimeError):
    """sshd is missing or did not start; the text says why."""


def find_sshd() -> Path | None:
    """The sshd of this machine; it wants to be called by its whole path."""
    return next(
        (Path(place) for place in (shutil.which("sshd"), *_PLACES) if place and Path(place).exists()), None
    )


class EmbeddedSshd:
    """`start` returns when it listens. `trusted` are lines of authorities, `keys` those of plain public keys.

    `host_key` is the line by which it proves itself; `user` who may log in.
    """

    def __init__(self, folder: Path, trusted: str = "", keys: str = "", extra: str = "") -> None:
        self._folder = folder
        self._trusted = trusted
        self._keys = keys
        self._extra = extra
        self._process: subprocess.Popen[bytes] | None = None
        self.user = getpass.getuser()
        self.port = 0
        self.log = folder / "sshd.log"

    @property
    def pid(self) -> int | None:
        """Of the sshd that listens, while it runs."""
        return self._process.pid if self._process is not None else None

    @property
    def host_key(self) -> str:
        return " ".join((self._folder / "host_key.pub").read_text().split()[:2])

    def start(self, port: int = 0) -> None:
        """On `port` where it is free, else on another. Raises SshdError."""
        program = find_sshd()
        if program is None:
            raise SshdError("sshd is not installed (Debian: apt install openssh-server).")
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._make_key()
        self.port = next_free(port) or free_port()
        config = self._folder / "sshd_config"
        config.write_text(self._config())
        if os.getuid() == 0:
            Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)  # where its unprivileged part lives
        with self.log.open("ab") as output:
            self._process = subprocess.Popen(
                [program, "-D", "-e", "-f", config],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
                preexec_fn=die_with_parent,  # noqa: PLW1509
            )
        self._wait()

    def stop(self) -> None:
        if self._process is not None:
            self._process.terminate()
            self._process.wait(10)
            self._process = None

    def _make_key(self) -> None:
        key = self._folder / "host_key"
        if not key.exists():
            keygen = shutil.which("ssh-keygen") or "ssh-keygen"
            subprocess.run([keygen, "-q", "-t", "ed25519", "-N", "", "-f", key], check=True)

    def _config(self) -> str:
        (self._folder / "trusted.pub").write_text(self._trusted + "\n")
        (self._folder / "authorized_keys").write_text(self._keys + "\n")
        sftp = next((place for place in _SFTP if Path(place).exists()), "internal-sftp")
        keys = self._folder / "authorized_keys" if self._keys else "none"
        return f"""\
Port {self.port}
ListenAddress 127.0.0.1
HostKey {self._folder / "host_key"}
PidFile none
UsePAM no
StrictModes no
PermitRootLogin prohibit-password
PasswordAuthentication no
KbdInteractiveAuthentication no
TrustedUserCAKeys {self._folder / "trusted.pub"}
AuthorizedKeysFile {keys}
AllowUsers {self.user}
AcceptEnv LANG LC_*
MaxStartups 200
MaxSessions 100
PrintMotd no
PrintLastLog no
Subsystem sftp {sftp}
{self._extra}
"""

    def _wait(self) -> None:
        deadline = time.monotonic() + _SECONDS
        while time.monotonic() < deadline:
            assert self._process is not None
            if self._process.poll() is not None:
                break
            try:
                socket.create_connection(("127.0.0.1", self.port), timeout=1).close()
                return
            except OSError:
                time.sleep(0.02)
        self.stop()
        raise SshdError(f"sshd did not start: {self.log.read_text(errors='replace')[-500:]}")
