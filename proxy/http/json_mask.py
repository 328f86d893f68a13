"""JSON as it passes: fields replaced by their paths, findings hidden, in constant memory.

The text is read strictly (RFC 8259): what is no JSON is Blocked, since two readers may see different fields
in it. Keys are compared as they read, not as they are written.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from functools import lru_cache

from proxy.http.kinds import Blocked
from proxy.sql.detect import hide
from proxy.sql.methods import email, hasher, last4, pseudonym
from workflows import json_path
from workflows.http import FieldMask
from workflows.json_path import ANY, DEEP, JsonPath, Step

_TOKEN = re.compile(
    rb'[ \t\r\n]+|[{}\[\]:,]|"(?:[^"\\\x00-\x1f]|\\["\\/bfnrtu])*+"|-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?'
    rb"(?:[eE][+-]?[0-9]+)?(?=[ \t\r\n,\]}])|(?:true|false|null)(?=[ \t\r\n,\]}])"
)
_REST = re.compile(rb'(?:[^"\\\x00-\x1f]|\\.)*+', re.S)
_LONGEST = 256 * 1024
"""Bytes of a text that is looked at; a longer one passes as it comes, or is masked whole."""
_LONGEST_KEY = 4096
_DEEPEST = 512
_STARS = b'"***"'
_TEXT, _BIGINT = 25, 20

State = frozenset[tuple[int, int]]
Value = Callable[[bytes], bytes]


class Machine:
    """Which masks a place in a document is under, step by step from the root."""

    def __init__(self, masks: Sequence[FieldMask], key: bytes) -> None:
        self._paths: list[JsonPath] = [json_path.parse(mask.path) for mask in masks]
        self._values = [_value_of(mask.method, key) for mask in masks]
        self.indexed = any(isinstance(step, int) for path in self._paths for step in path.steps)
        self.root: State = frozenset((number, 0) for number in range(len(masks)))
        self._known: dict[tuple[State, Step], tuple[State, Value | None]] = {}

    def step(self, state: State, step: Step) -> tuple[State, Value | None]:
        """The state behind a step, and what replaces the value there, if something does."""
        found = self._known.get((state, step))
        if found is None:
            found = self._step(state, step)
            if len(self._known) < 4096:
                self._known[state, step] = found
        return found

    def _step(self, state: State, step: Step) -> tuple[State, Value | None]:
        new: set[tuple[int, int]] = set()
        value = None
        for number, at in state:
            steps = self._paths[number].steps
            if steps[at] == DEEP:
                new.add((number, at))
                at += 1
            if steps[at] == ANY or steps[at] == step:
                if at + 1 == len(steps):
                    value = value or self._values[number]
                else:
                    new.add((number, at + 1))
        return frozenset(new), value


class JsonMask:
    """A Transform. `many` lets one document follow the other, as in NDJSON."""

    def __init__(self, machine: Machine, detect: tuple[str, ...], *, many: bool = False) -> None:
        self._machine = machine
        self._detect = detect
        self._many = many
        self._buffer = b""
        self._stack: list[tuple[bool, State, int]] = []  # of containers: an object?, state, index
        self._expect = "value"
        self._child: State = machine.root
        self._replace: Value | None = None
        self._skipping = 0  # containers that are open inside one that is masked
        self._long = ""  # inside a long text: pass or drop
        self._started = False

    def feed(self, data: bytes) -> bytes:
        out: list[bytes] = []
        buffer = self._buffer + data if self._buffer else data
        at, size = 0, len(buffer)
        while at < size:
            if self._long:
                at = self._go_on(buffer, at, out)
                if self._long:
                    break
                continue
            found = _TOKEN.match(buffer, at)
            if found is None:
                if not self._incomplete(buffer, at, out):
                    break
                at = len(buffer)
                buffer = self._buffer
                at, size = 0, len(buffer)
                continue
            self._token(found[0], out)
            at = found.end()
        self._buffer = buffer[at:]
        return b"".join(out)

    def end(self) -> bytes:
        rest = self.feed(b"\n")  # a number at the end has its end now
        done = not self._stack and (self._expect == "end" or (self._many and self._expect == "value"))
        if self._buffer or self._long or not (done or not self._started):
            raise Blocked("it is no whole JSON")
        return rest.removesuffix(b"\n")

    # --- what does not fit into one piece

    def _incomplete(self, buffer: bytes, at: int, out: list[bytes]) -> bool:
        """Whether the unfinished token at `at` could be taken as a long text. Raises Blocked where it can
        never become a token.
        """
        left = len(buffer) - at
        text = buffer[at : at + 1] == b'"'
        if text and not _unfinished(buffer, at + 1):
            raise Blocked("it is no JSON")
        if not text and (left > 400 or not re.match(rb"-?[0-9.eE+-]*$|[a-z]{1,5}$", buffer[at:])):
            raise Blocked("it is no JSON")
        if not text or left <= _LONGEST:
            return False
        if self._expect in ("key", "first key") or self._expect not in ("value", "first value"):
            raise Blocked("a name in it is too long")
        self._open_value()
        if self._skipping or self._replace or self._detect:
            if not self._skipping:
                out.append(_STARS)
            self._long = "drop"
        else:
            out.append(b'"')
            self._long = "pass"
        self._buffer = buffer[at + 1 :]
        return True

    def _go_on(self, buffer: bytes, at: int, out: list[bytes]) -> int:
        """Further into a long text; where that ends, or how far it went."""
        found = _REST.match(buffer, at)
        assert found is not None
        end = found.end()
        if self._long == "pass":
            out.append(buffer[at:end])
        if end == len(buffer) or (buffer[end : end + 1] == b"\\" and end + 1 == len(buffer)):
            return end
        if buffer[end : end + 1] != b'"':
            raise Blocked("it is no JSON")
        if self._long == "pass":
            out.append(b'"')
        self._long = ""
        self._close_value()
        return end + 1

    # --- tokens

    def _token(self, token: bytes, out: list[bytes]) -> None:
        first = token[:1]
        if first in b" \t\r\n":
            if not self._skipping:
                out.append(token)
            return
        self._started = True
        if self._expect in ("value", "first value"):
            self._value(token, first, out)
        elif self._expect in ("key", "first key"):
            self._key(token, first, out)
        elif self._expect == "colon" and first == b":":
            self._expect = "value"
            self._put(token, out)
        elif self._expect == "comma":
            self._between(first, token, out)
        else:
            raise Blocked("it is no JSON")

    def _put(self, token: bytes, out: list[bytes]) -> None:
        if not self._skipping:
            out.append(token)

    def _key(self, token: bytes, first: bytes, out: list[bytes]) -> None:
        if first == b"}" and self._expect == "first key":
            self._close_container(token, out)
            return
        if first != b'"':
            raise Blocked("it is no JSON")
        if len(token) > _LONGEST_KEY:
            raise Blocked("a name in it is too long")
        if not self._skipping:
            name = _name(token)
            state = self._stack[-1][1]
            self._child, self._replace = self._machine.step(state, name) if state else (state, None)
            out.append(_hidden(token, self._detect) if self._detect else token)
        self._expect = "colon"

    def _value(self, token: bytes, first: bytes, out: list[bytes]) -> None:
        if first == b"]" and self._expect == "first value":
            self._close_container(token, out)
            return
        if first in b"}]:,":
            raise Blocked("it is no JSON")
        self._open_value()
        if first in b"{[":
            self._open_container(first, token, out)
            return
        if self._skipping:
            pass
        elif self._replace is not None:
            out.append(self._replace(token))
        else:
            out.append(_hidden(token, self._detect) if self._detect else token)
        self._close_value()

    def _open_value(self) -> None:
        """A value begins: in an array its index is a step."""
        if self._skipping or not self._stack:
            return
        is_object, state, index = self._stack[-1]
        if not is_object:
            step: Step = index if self._machine.indexed else ANY
            self._child, self._replace = self._machine.step(state, step) if state else (state, None)
            self._stack[-1] = (False, state, index + 1)

    def _open_container(self, first: bytes, token: bytes, out: list[bytes]) -> None:
        if len(self._stack) >= _DEEPEST:
            raise Blocked("it is too deep")
        if self._skipping or self._replace is not None:
            if not self._skipping:
                out.append(_STARS)
            self._skipping += 1
        else:
            out.append(token)
        self._stack.append((first == b"{", self._child, 0))
        self._expect = "first key" if first == b"{" else "first value"

    def _close_container(self, token: bytes, out: list[bytes]) -> None:
        self._stack.pop()
        if self._skipping:
            self._skipping -= 1
        else:
            out.append(token)
        self._close_value()

    def _close_value(self) -> None:
        self._replace = None
        if self._stack:
            self._expect = "comma"
        else:
            self._expect = "value" if self._many else "end"
            self._child = self._machine.root

    def _between(self, first: bytes, token: bytes, out: list[bytes]) -> None:
        is_object = self._stack[-1][0]
        if first == b",":
            self._put(token, out)
            self._expect = "key" if is_object else "value"
        elif first == (b"}" if is_object else b"]"):
            self._close_container(token, out)
        else:
            raise Blocked("it is no JSON")


def once(document: bytes, machine: Machine, detect: tuple[str, ...]) -> bytes:
    """A whole document. Raises Blocked."""
    mask = JsonMask(machine, detect)
    return mask.feed(document) + mask.end()


def _unfinished(buffer: bytes, at: int) -> bool:
    """Whether a text that has no end yet may get one; a lone backslash may stand where it was cut."""
    cut = buffer.endswith(b"\\") and _REST.fullmatch(buffer, at, len(buffer) - 1) is not None
    return cut or _REST.fullmatch(buffer, at) is not None


def _name(token: bytes) -> str:
    try:
        return str(json.loads(token)) if b"\\" in token else token[1:-1].decode()
    except ValueError as error:
        raise Blocked("it is no JSON in UTF-8") from error


def _hidden(token: bytes, detect: tuple[str, ...]) -> bytes:
    """A text or number without what the detectors find in it."""
    try:
        if token[:1] != b'"':
            text = token.decode()
            return token if hide(text, detect) == text else _STARS
        inside = str(json.loads(token))
    except ValueError as error:
        raise Blocked("it is no JSON in UTF-8") from error
    hidden = hide(inside, detect)
    return token if hidden == inside else json.dumps(hidden).encode()


@lru_cache(maxsize=256)
def _value_of(method: str, key: bytes) -> Value:
    """What replaces a value's token. What is no text becomes null, unless it has a pseudonym or a hash."""
    number = pseudonym(key, _BIGINT, False)
    text = {"last4": last4, "email": email, "hash": hasher(key), "pseudonym": pseudonym(key, _TEXT, False)}
    function = text.get(method)

    def replaced(token: bytes) -> bytes:
        if method == "null" or token == b"null":
            return b"null"
        if token[:1] != b'"':
            if method == "hash":
                return b'"%b"' % (hasher(key)(token) or b"")
            changed = number(token) if method == "pseudonym" and number is not None else None
            return changed or b"null"
        if function is None:
            return _STARS
        changed = function(str(json.loads(token)).encode("utf-8", "surrogatepass"))
        return b"null" if changed is None else json.dumps(changed.decode("utf-8", "replace")).encode()

    return replaced
