"""FunctionCall messages, of which the large object functions pass.

libpq's lo_* calls are FunctionCalls, and so pg_dump, psql's \\lo_ commands and most drivers need them. Each
is read as the SELECT that would do the same. Any other function is named by an oid only that the gate cannot
read, and whoever calls one can as well write SELECT.
Source: PostgreSQL documentation, "Function Call"; the oids are those of src/include/catalog/pg_proc.dat.
"""

from __future__ import annotations

import struct

from proxy.postgres.codec import WireError

_LARGE_OBJECTS = {
    715: b"lo_create($1)",
    952: b"lo_open($1, $2)",
    953: b"lo_close($1)",
    954: b"loread($1, $2)",
    955: b"lowrite($1, $2)",
    956: b"lo_lseek($1, $2, $3)",
    957: b"lo_creat($1)",
    958: b"lo_tell($1)",
    964: b"lo_unlink($1)",
    1004: b"lo_truncate($1, $2)",
    3170: b"lo_lseek64($1, $2, $3)",
    3171: b"lo_tell64($1)",
    3172: b"lo_truncate64($1, $2)",
}


def as_select(body: bytes) -> bytes | None:
    """The SELECT that does what this FunctionCall does; None where the gate does not know the function.

    Raises WireError when the message is too short to name one.
    """
    if len(body) < 10:
        raise WireError("a FunctionCall is cut short")
    call = _LARGE_OBJECTS.get(struct.unpack_from("!I", body)[0])
    return None if call is None else b"select pg_catalog." + call


def as_bind(body: bytes) -> bytes:
    """Its arguments as the body of a Bind: after the oid the two are laid out alike, but for the result."""
    return b"\0\0" + body[4:-2] + b"\0\0"
