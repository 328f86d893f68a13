"""What is hidden in answers: JSON fields by their paths, findings in texts. The unreadable does not pass."""

from __future__ import annotations

import codecs
import re
from fnmatch import fnmatchcase

from proxy.http import codec
from proxy.http.codec import Header, ResponseHead
from proxy.http.json_mask import JsonMask, Machine, once
from proxy.http.kinds import Blocked, Transform
from proxy.http.tags import Tags
from proxy.sql.detect import hide
from workflows.http import HttpTerms

_JSON = re.compile(r"application/(?:[\w.!#$&^-]+\+)?json|text/json")
_MANY = re.compile(r"application/(?:x-ndjson|ndjson|jsonl|x-jsonlines|json-seq)")
_TEXT = re.compile(
    r"text/.*|application/(?:[\w.!#$&^-]+\+)?(?:xml|yaml)|application/"
    r"(?:javascript|x-javascript|json5|x-json|x-www-form-urlencoded|graphql|sql|x-yaml|xhtml\+xml)"
)
_UNSAID = ("", "unknown/unknown", "application/unknown", "*/*")
"""Types by which nothing is said: readers look into the bytes then (MIME Sniffing, section 7)."""
_CHARSETS = ("utf-8", "utf8", "us-ascii", "iso-8859-1", "latin1")
_DROPPED = (
    b"range", b"if-range", b"accept-encoding", b"want-digest", b"want-content-digest", b"want-repr-digest",
    b"a-im",
)  # fmt: skip
_VOID = (b"content-md5", b"digest", b"content-digest", b"repr-digest", b"accept-ranges", b"delta-base")
"""They tell of the clear body."""
_TAGGED = (b"if-match", b"if-none-match")
_LINE = 32 * 1024
_KEEP = 1024
_EVENT = 1 << 20


class Masking:
    """The masks and detectors of one session. `key` is for pseudonyms."""

    def __init__(self, http: HttpTerms, detect: tuple[str, ...], key: bytes) -> None:
        self._tags = Tags(key)
        self._machine = Machine(http.masks, key)
        self._masks = bool(http.masks)
        self._detect = detect
        self._passing = tuple(kind.lower() for kind in http.pass_types)

    def outgoing(self, headers: list[Header]) -> list[Header]:
        """The fields of a request: the whole answer is asked for, in clear."""
        kept = [
            (name, self._tags.opened(value) if name in _TAGGED else value)
            for name, value in headers
            if name not in _DROPPED
        ]
        return [*kept, (b"accept-encoding", b"identity")]

    def transform(self, head: ResponseHead, method: str) -> Transform | None:
        """What changes the body of an answer; None where it passes. Raises Blocked."""
        head.headers = [
            (name, self._tags.sealed(value) if name == b"etag" else value)
            for name, value in head.headers
            if name not in _VOID
        ]
        head.reason = codec.reason_of(head.status)
        if not head.has_body(method):
            if method == "HEAD":
                head.length = None
            return None
        if head.status == 206:
            raise Blocked("it is a part of an answer, which cannot be masked")
        kind, charsets = _type(head)
        if head.length == 0 and not head.chunked:
            return None
        if any(coding.lower() not in (b"", b"identity") for coding in head.all(b"content-encoding")):
            if not self._masks and not _read(kind):
                return None
            raise Blocked("it came in an encoding that cannot be read, and this role has masks")
        if not charsets <= set(_CHARSETS) or len(charsets) > 1:
            raise Blocked("it came in an alphabet that cannot be read, and this role has masks")
        return self._of(kind, next(iter(charsets), ""))

    def _of(self, kind: str, charset: str) -> Transform | None:
        if _JSON.fullmatch(kind) or _MANY.fullmatch(kind):
            return JsonMask(self._machine, self._detect, many=bool(_MANY.fullmatch(kind)))
        if kind == "text/event-stream":
            return EventMask(self._machine, self._detect, masks=self._masks)
        if self._masks and not any(fnmatchcase(kind, passing) for passing in self._passing):
            shown = kind or "no type"
            raise Blocked(f"it is {shown}, in which fields cannot be masked, and this role has masks")
        if self._detect and kind.startswith("multipart/"):
            raise Blocked("it comes in parts of several types, which are not read, and this role has masks")
        if not self._detect or not _read(kind):
            return None
        return TextMask(self._detect, "latin-1" if charset in ("iso-8859-1", "latin1") else "utf-8")


def _read(kind: str) -> bool:
    return kind in _UNSAID or "/" not in kind or any(form.fullmatch(kind) for form in (_JSON, _MANY, _TEXT))


def _type(head: ResponseHead) -> tuple[str, set[str]]:
    """The media type, and every alphabet that is named with it."""
    kinds = head.all(b"content-type")
    if len(kinds) > 1:
        raise Blocked("it has two types")
    kind, _, more = (kinds[0] if kinds else b"").decode("latin-1").lower().partition(";")
    return kind.strip(), set(re.findall(r"charset\s*=\s*[\"']?([^\"';\s]+)", more))


class TextMask:
    """Findings in a text, line by line; a line without an end is searched in pieces that overlap."""

    def __init__(self, detect: tuple[str, ...], charset: str) -> None:
        self._detect = detect
        self._charset = charset
        self._decode = codecs.getincrementaldecoder(charset)("replace").decode
        self._held = ""

    def feed(self, data: bytes) -> bytes:
        return self._search(self._decode(data))

    def end(self) -> bytes:
        last = self._search(self._decode(b"", True))
        rest, self._held = self._held, ""
        return last + hide(rest, self._detect).encode(self._charset, "replace")

    def _search(self, text: str) -> bytes:
        if "\0" in text:
            raise Blocked("it is no text in the alphabet that it says, so that nothing can be found in it")
        text = self._held + text
        cut = text.rfind("\n") + 1
        if not cut and len(text) > _LINE:
            hidden = hide(text, self._detect)
            # What stands at the end may go on: it is searched again with what follows.
            cut = max(hidden.rfind(" ", 0, -_KEEP) + 1, len(hidden) - _KEEP)
            self._held = hidden[cut:]
            return hidden[:cut].encode(self._charset, "replace")
        self._held = text[cut:]
        return hide(text[:cut], self._detect).encode(self._charset, "replace") if cut else b""


class EventMask:
    """Server-sent events (HTML Living Standard, 9.2): the data of each is a document or a text of its own."""

    def __init__(self, machine: Machine, detect: tuple[str, ...], *, masks: bool) -> None:
        self._machine = machine
        self._detect = detect
        self._masks = masks
        self._held = b""
        self._begun = False

    def feed(self, data: bytes) -> bytes:
        self._held += data
        if not self._begun and len(self._held) >= len(codecs.BOM_UTF8):
            self._held = self._held.removeprefix(codecs.BOM_UTF8)  # which readers skip
            self._begun = True
        out = []
        while (found := re.search(rb"\r\n\r\n|\n\n|\r\r(?!\n)", self._held)) is not None:
            event, self._held = self._held[: found.start()], self._held[found.end() :]
            out.append(self._event(event))
        if len(self._held) > _EVENT:
            raise Blocked("an event in it is too long")
        return b"".join(out)

    def end(self) -> bytes:
        rest, self._held = self._held, b""
        return self._event(rest) if rest.strip() else b""

    def _event(self, event: bytes) -> bytes:
        lines, said = [], []
        for line in re.split(rb"\r\n|\n|\r", event):
            name, _, value = line.partition(b":")
            if name == b"data":
                said.append(value.removeprefix(b" "))
            elif not self._masks or name in (b"event", b"retry", b"id"):
                text = line.decode("utf-8", "replace")
                lines.append(hide(text, self._detect).encode() if self._detect else line)
            elif line[:1] == b":":  # a comment, and what no reader knows, may hold any field
                lines.append(b":")
        if said:
            hidden = self._data(b"\n".join(said))
            lines += [b"data: " + line for line in hidden.split(b"\n")]
        return b"\n".join(line for line in lines if line) + b"\n\n"

    def _data(self, data: bytes) -> bytes:
        try:
            return once(data, self._machine, self._detect)
        except Blocked:
            if self._masks:
                return b"***"
            return hide(data.decode("utf-8", "replace"), self._detect).encode()
