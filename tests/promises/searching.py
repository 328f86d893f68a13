"""Looking for secrets in what was written or answered, in every shape they may have on their way out."""

from __future__ import annotations

import base64
from collections.abc import Iterable
from pathlib import Path
from urllib.parse import quote


def shapes(secret: bytes) -> set[bytes]:
    """A secret as it would look on its way out. Base 64 is tried at the three offsets it can have."""
    found = {secret, secret.hex().encode(), secret.hex().upper().encode(), quote(secret, safe="").encode()}
    for pad in range(3):
        for encode in (base64.b64encode, base64.urlsafe_b64encode):
            # The first and last characters depend on the neighbours.
            found.add(encode(b"\0" * pad + secret)[4 if pad else 0 : -4])
    return {shape for shape in found if len(shape) >= 8}


def leaks(secrets: dict[str, bytes], places: Iterable[tuple[str, bytes]]) -> list[str]:
    """Which secret is found in which place."""
    wanted = [(name, shape) for name, secret in secrets.items() for shape in shapes(secret)]
    return sorted({f"{name} in {place}" for place, text in places for name, shape in wanted if shape in text})


def keys_of(data_dir: Path) -> dict[str, bytes]:
    """The keys that a broker keeps in its data directory: as the files have them, and as bare bytes."""
    seal = (data_dir / "seal.key").read_bytes().strip()
    audit = [line for line in (data_dir / "audit.key").read_bytes().splitlines() if b"-----" not in line]
    return {
        "seal key": seal,
        "bare seal key": base64.b64decode(seal),
        "audit key": b"".join(audit),
        "bare audit key": base64.b64decode(b"".join(audit))[-32:],  # PKCS #8 of Ed25519 (RFC 8410)
    }


def arguments_of_processes() -> list[tuple[str, bytes]]:
    """What every user of the machine can read of those who run on it."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            found.append((f"arguments of process {path.parent.name}", path.read_bytes()))
        except OSError:
            continue  # it ended meanwhile
    return found


def open_to_others(folder: Path) -> list[str]:
    """Files and directories under a directory, and itself, that others than their owner may read or list."""
    return sorted(
        f"{path.relative_to(folder)} is {path.stat().st_mode & 0o777:o}"
        for path in (folder, *folder.rglob("*"))
        if not path.is_symlink() and path.stat().st_mode & 0o077
    )
