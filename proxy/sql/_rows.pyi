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
def rewrite_binary_copy(
    chunk: bytes | memoryview,
    width: int,
    replacements: tuple[tuple[int, Replacement], ...],
    whatever: Set[int],
    last4: Function,
    email: Function,
) -> bytes: ...
def rewrite_copy(
    chunk: bytes | memoryview,
    width: int,
    changes: tuple[tuple[int, bytes | Function, Function, bool], ...],
    last4: Function,
    email: Function,
    csv: bool,
    delimiter: bytes,
    quote: bytes,
    escape: bytes,
    null: bytes | None,
) -> bytes: ...
