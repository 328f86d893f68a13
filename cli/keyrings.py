"""The system's keyring as a place for the login token, where there is one that protects it.

By the library `keyring`: Secret Service (GNOME, KDE), the macOS keychain, the Windows credential locker.
Without one (a server, a container) the token stays in the login file, readable by its owner only.
PORTCULLIS_KEYRING=off keeps it there in any case.
"""

from __future__ import annotations

import os
from typing import Any

SERVICE = "portcullis"


def put(account: str, token: str) -> bool:
    """Keep a token. False where there is no keyring to trust."""
    keyring = _keyring()
    if keyring is None:
        return False
    try:
        keyring.set_password(SERVICE, account, token)
        return bool(keyring.get_password(SERVICE, account) == token)
    except Exception:  # a keyring fails in as many ways as there are kinds of it
        return False


def get(account: str) -> str:
    """The token; "" where it is not there, or the keyring is locked."""
    keyring = _keyring()
    try:
        return (keyring.get_password(SERVICE, account) or "") if keyring else ""
    except Exception:
        return ""


def remove(account: str) -> None:
    keyring = _keyring()
    try:
        if keyring is not None:
            keyring.delete_password(SERVICE, account)
    except Exception:  # nothing was there, or nobody can get at it: the token is ended at the broker anyway
        return


def _keyring() -> Any:
    """The best keyring of this system; None for none. Those that keep passwords in plain files do not
    count.
    """
    if os.environ.get("PORTCULLIS_KEYRING", "").lower() in {"off", "no", "0", "false"}:
        return None
    try:
        import keyring

        found = keyring.get_keyring()
        usable = found.priority >= 1
    except Exception:
        return None
    return found if usable and "file" not in type(found).__module__ else None
