"""What `access` keeps between calls: the login, in a file that only its owner can read. Its token is in the
system's keyring instead, where there is one.
"""

from __future__ import annotations

import errno
import json
import os
import stat
from dataclasses import asdict, dataclass, field
from pathlib import Path

from cli import keyrings
from cli.trouble import Exit, Trouble

DEFAULT_BROKER = "http://127.0.0.1:8080"


@dataclass(frozen=True, slots=True)
class Login:
    """Who is logged in at which broker. `token` is the bearer login token."""

    broker: str
    principal: str
    token: str = field(repr=False)


def home() -> Path:
    """Where it is kept: PORTCULLIS_HOME, or `portcullis` in the XDG configuration directory."""
    if place := os.environ.get("PORTCULLIS_HOME"):
        return Path(place)
    return Path(os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config") / "portcullis"


def environment() -> dict[str, str]:
    """What a program that runs `access` by itself, where this environment is not, has to set for it."""
    kept = {"PORTCULLIS_HOME": str(home().absolute())} if "PORTCULLIS_HOME" in os.environ else {}
    if broker := os.environ.get("PORTCULLIS_BROKER"):
        kept["PORTCULLIS_BROKER"] = broker
    return kept


def write(login: Login) -> Path:
    """Keep the login, with mode 0600 from the beginning."""
    account = _account(login)
    kept = asdict(login) | {"keyring": ""}
    if keyrings.put(account, login.token):
        kept |= {"token": "", "keyring": account}
    return write_file("login.json", json.dumps(kept))


def in_keyring() -> bool:
    """Whether the token of the kept login is in the system's keyring."""
    try:
        return bool(json.loads((home() / "login.json").read_text()).get("keyring"))
    except (OSError, ValueError, AttributeError):
        return False


def _account(login: Login) -> str:
    """Logins of several homes or brokers do not meet in the one keyring."""
    return f"{login.principal} at {login.broker} ({home()})"


def read() -> Login:
    """The kept login. Raises Trouble where there is none, or others can read it."""
    place = home() / "login.json"
    missing = Trouble("You are not logged in.", "Log in: access login", Exit.NOT_LOGGED_IN)
    try:
        if stat.S_IMODE(place.stat().st_mode) & 0o077:
            raise Trouble(
                f"Others can read your login ({place}).", f"Run: chmod 600 {place}", Exit.NOT_LOGGED_IN
            )
        found = dict(json.loads(place.read_text()))
        if account := found.pop("keyring", ""):
            found["token"] = keyrings.get(account)
            if not found["token"]:
                raise Trouble(
                    "The system's keyring does not give your login away.",
                    "Unlock it, or log in again: access login",
                    Exit.NOT_LOGGED_IN,
                )
        return Login(**found)
    except (FileNotFoundError, ValueError, TypeError):
        raise missing from None
    except OSError as error:
        raise Trouble(
            f"Your login cannot be read ({place}: {error.strerror}).",
            "Make it yours, or set PORTCULLIS_HOME to a folder of your own and log in there: access login",
            Exit.NOT_LOGGED_IN,
        ) from None


def forget() -> None:
    place = home() / "login.json"
    try:
        account = json.loads(place.read_text()).get("keyring", "")
    except (OSError, ValueError, AttributeError):
        account = ""
    if account:
        keyrings.remove(account)
    place.unlink(missing_ok=True)


def broker_address(given: str = "") -> str:
    """The broker to speak to: the option, PORTCULLIS_BROKER, the kept login's, or the default."""
    if address := given or os.environ.get("PORTCULLIS_BROKER", ""):
        return address.rstrip("/")
    try:
        return read().broker
    except Trouble:
        return DEFAULT_BROKER


def prepare() -> None:
    """Make `home` where it is missing. Raises Trouble where nothing can be kept in it."""
    directory = home()
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise _unkept(error) from None
    if not os.access(directory, os.W_OK):
        raise _unkept(PermissionError(errno.EACCES, os.strerror(errno.EACCES)))


def write_file(name: str, content: str) -> Path:
    """Put a file into `home`, whole or not at all, readable by its owner only. Raises Trouble."""
    prepare()
    draft, place = home() / f".{name}.{os.getpid()}", home() / name
    try:
        handle = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(handle, "w") as file:
            file.write(content)
        draft.replace(place)
    except OSError as error:
        raise _unkept(error) from None
    return place


def _unkept(error: OSError) -> Trouble:
    return Trouble(
        f"Nothing can be kept in {home()}: {error.strerror}.",
        "Set PORTCULLIS_HOME to a folder that you may write to.",
    )
