"""Whom this machine trusts, for the clients that ask elsewhere over TLS."""

from __future__ import annotations

import functools
import ssl

import httpx2


@functools.cache
def system_trust() -> ssl.SSLContext:
    """The machine's certificate authorities, read once: httpx2 reads the file anew for each client, and that
    is most of what making one costs. What changes there counts from the next start on.
    """
    return httpx2.create_ssl_context()
