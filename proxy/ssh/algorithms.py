"""The algorithms that the gate speaks, on both sides: none that is known to be weak, post-quantum first.

No cipher here is open to prefix truncation (CVE-2023-48795), also with a peer that knows no strict key
exchange: chacha20-poly1305 and CBC are left out, and strict key exchange is used wherever the peer has it.
"""

from __future__ import annotations

from typing import Any

from asyncssh.kex import get_kex_algs

_KEX = (
    "mlkem768x25519-sha256",
    "sntrup761x25519-sha512",
    "sntrup761x25519-sha512@openssh.com",
    "curve25519-sha256",
    "curve25519-sha256@libssh.org",
    "diffie-hellman-group16-sha512",
    "diffie-hellman-group18-sha512",
)
KEX = [name for name in _KEX if name.encode() in get_kex_algs()]
"""Those of them that the libraries here can do."""
CIPHERS = ["aes128-gcm@openssh.com", "aes256-gcm@openssh.com", "aes256-ctr"]
"""AES-128-GCM first: it is the fastest with the processors' own AES, and far from being broken."""
MACS = ["hmac-sha2-256-etm@openssh.com", "hmac-sha2-512-etm@openssh.com"]
SIGNATURES = [
    "ssh-ed25519",
    "sk-ssh-ed25519@openssh.com",
    "ecdsa-sha2-nistp256",
    "ecdsa-sha2-nistp384",
    "ecdsa-sha2-nistp521",
    "sk-ecdsa-sha2-nistp256@openssh.com",
    "rsa-sha2-512",
    "rsa-sha2-256",
]
"""Of people's and hosts' keys: none with SHA-1."""
COMPRESSION = ["none"]
"""Compressing costs more than it gives, and its length tells of secrets."""

ON_BOTH_SIDES: dict[str, Any] = {
    "config": None,
    "kex_algs": KEX,
    "encryption_algs": CIPHERS,
    "mac_algs": MACS,
    "signature_algs": SIGNATURES,
    "compression_algs": COMPRESSION,
    "gss_host": None,
    "keepalive_interval": 15.0,
    "keepalive_count_max": 3,
}
"""asyncssh's options towards clients and hosts alike: nothing from files of this machine, and a peer that
does not answer for 45 seconds is gone.
"""
