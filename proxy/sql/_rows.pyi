from collections.abc import Set

from proxy.sql.methods import Function, Replacement

def rewrite(
    chunk: bytes | memoryview,
    width: int,
    replacements: tuple[tuple[int, Replacement], ...],
    whatever: Set[int],
    last4: Function,
    email: Function,
) -> bytes: ...
