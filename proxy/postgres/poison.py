"""How a statement is refused on the wire.

It is replaced by one that the target itself must fail at the parse: so the error comes in its right place, an
open transaction aborts and a pipeline is skipped exactly as PostgreSQL does it. The target's syntax error is
then put into our words. The named Parse leaves the unnamed statement alone.
"""

from __future__ import annotations

from proxy.postgres import codec

_POISON = b"portcullis refused this statement"
POISON_QUERY = codec.query(_POISON)
POISON_PARSE = codec.parse(b"portcullis_refused", _POISON)
