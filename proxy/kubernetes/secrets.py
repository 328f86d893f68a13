"""The data of Secrets, masked in whatever form the API server gives it out.

The server is only asked for forms that are read here, which are JSON ones: a Secret, a list, a Table,
metadata alone, and a watch of any of these. A client that takes nothing but protobuf or CBOR is refused, one
that wants YAML gets it made of the masked JSON. An answer of any other form does not pass.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import re
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import msgspec
import yaml

from proxy.http.kinds import Blocked

if TYPE_CHECKING:
    from proxy.kubernetes.request import ApiRequest

MASK = "masked by portcullis"
MASK_BASE64 = base64.b64encode(MASK.encode()).decode()
"""What stands for a value: base64, as clients decode it."""
WHOLE_LIMIT = 64 << 20
"""Bytes of an answer that can be masked at once."""
EVENT_LIMIT = 8 << 20
"""Bytes of one event of a watch."""
_JSON = "application/json"
_KEPT = ("apiVersion", "kind", "metadata", "type", "immutable")
_SHORT = 4
"""Characters below which a value is not looked for in labels: it would be found everywhere."""
_COPYING = ("copy", "move", "test")
_TOKENS = ("kubernetes.io/service-account-token", "bootstrap.kubernetes.io/token")
"""Types of Secrets that are credentials for the cluster itself."""
_OF_HELM = b"helm.sh/release"
_READ_HERE = re.compile(r"(application/([\w.-]+\+)?(json|yaml))?", re.I)
Mark = Callable[[Any], str]


class Unmaskable(Blocked):
    """This cannot be masked, so it does not pass. The text is for people and tells nothing it holds."""


def accepted(header: str) -> tuple[str, bool]:
    """What to ask the server for instead of what the client's Accept header asks for, and whether the client
    is to get YAML made of it. Raises Unmaskable where the client takes nothing that can be masked.
    """
    ranges = [it.strip() for it in header.split(",") if it.strip()]
    kinds = [it.partition(";")[0].strip().lower() for it in ranges]
    kept = [it for it, kind in zip(ranges, kinds, strict=True) if kind == _JSON]
    if kept:
        return ", ".join(kept), False
    if not kinds or any(kind in ("*/*", "application/*") for kind in kinds):
        return _JSON, False
    if "application/yaml" in kinds:
        return _JSON, True
    raise Unmaskable("Secrets are given out as JSON or YAML here, because their data is masked")


def check_form(content_type: str, content_encoding: str) -> None:
    """Whether an answer is of a form that is read here. Raises Unmaskable."""
    if content_type.partition(";")[0].strip().lower() != _JSON or content_encoding.lower() not in (
        "",
        "identity",
    ):
        raise Unmaskable("the API server's answer is of a form whose data cannot be masked")


def check_written(body: bytes, content_type: str) -> None:
    """Whether what is written to a Secret tells or keeps nothing that is masked. Raises Unmaskable."""
    if MASK.encode() in body or MASK_BASE64.encode() in body:
        raise Unmaskable("this would store the mask in place of the data: send only what is to change")
    if _OF_HELM in body:
        raise Unmaskable("helm keeps a release in a Secret, and could not read its own again")
    kind = content_type.partition(";")[0].strip().lower()
    if _READ_HERE.fullmatch(kind) is None:
        raise Unmaskable("a Secret is written as JSON or YAML here")
    if not kind.startswith("application/json-patch"):
        return
    try:
        steps = json.loads(body)
        used = {step["op"] for step in steps}
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        raise Unmaskable("this JSON patch cannot be read") from error
    if not used.isdisjoint(_COPYING):
        raise Unmaskable("a JSON patch of a Secret may not copy, move or test: it would tell what is masked")


def check_changed(body: bytes, api: ApiRequest) -> None:
    """Whether a change of a Secret tells nothing of what it held. Raises Unmaskable.

    A server-side apply that does not force is refused by the server just where its values are not those that
    are there; and so is any change of an immutable Secret.
    """
    if api.applies and not api.flag("force"):
        raise Unmaskable("a server-side apply of a Secret would tell what is masked unless it forces")
    if any(isinstance(it, str) and it.strip("/") == "immutable" for it in _parts(_written(body))):
        raise Unmaskable("a Secret whose data is masked cannot be made immutable")


def makes_token(body: bytes) -> bool:
    """Whether it may be for a Secret that is a credential for the cluster."""
    if any(it.encode() in body for it in _TOKENS):
        return True
    try:
        return any(it in _TOKENS for it in _parts(_written(body)))
    except Unmaskable:
        return b"\\u" in body.lower()


def _written(body: bytes) -> Any:
    """What is written, as values. Raises Unmaskable."""
    try:
        return msgspec.json.decode(body)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
        pass
    try:
        return yaml.load(body, Loader=yaml.CSafeLoader)
    except (yaml.YAMLError, RecursionError, ValueError) as error:
        raise Unmaskable("what is written cannot be read") from error


def _parts(it: Any) -> Iterator[Any]:
    """Everything inside, names too; what stands in several places of a YAML document once."""
    left, seen = [it], set[int]()
    while left:
        one = left.pop()
        if not isinstance(one, (dict, list)):
            yield one
        elif id(one) not in seen:
            seen.add(id(one))
            left += one
            left += one.values() if isinstance(one, dict) else ()


# ------------------------------------------------------------------ streams


class Whole:
    """An answer that is masked once it is all there. Give it everything by `feed`, then `end`."""

    def __init__(self, *, as_yaml: bool = False) -> None:
        self._held = bytearray()
        self._yaml = as_yaml

    def feed(self, data: bytes) -> bytes:
        self._held += data
        if len(self._held) > WHOLE_LIMIT:
            raise Unmaskable("the answer is too large to be masked: ask for less at once (--chunk-size)")
        return b""

    def end(self) -> bytes:
        masked = mask(read(bytes(self._held)))
        if self._yaml:
            return yaml.safe_dump(masked, sort_keys=False, allow_unicode=True).encode()
        return msgspec.json.encode(masked)


class Events:
    """A watch: one event a line."""

    def __init__(self) -> None:
        self._held = bytearray()

    def feed(self, data: bytes) -> bytes:
        self._held += data
        *lines, rest = bytes(self._held).split(b"\n")
        self._held = bytearray(rest)
        if len(rest) > EVENT_LIMIT:
            raise Unmaskable("an event is too large to be masked")
        return b"".join(msgspec.json.encode(mask(read(line))) + b"\n" for line in lines if line.strip())

    def end(self) -> bytes:
        """What is not a whole line is no event."""
        return b""


def read(raw: bytes) -> dict[str, Any]:
    """A JSON object. Raises Unmaskable."""
    try:
        found = msgspec.json.decode(raw)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
        raise Unmaskable("the API server's answer cannot be read, so that it cannot be masked") from error
    if not isinstance(found, dict):
        raise Unmaskable("the API server's answer is no object, so that it cannot be masked")
    return found


# ------------------------------------------------------------------ masking


def mask(it: dict[str, Any]) -> dict[str, Any]:
    """The answer with every value masked. Raises Unmaskable for what is not known to be without any."""
    kind = it.get("kind")
    if "kind" not in it and set(it) == {"type", "object"} and isinstance(it["object"], dict):
        return {"type": it["type"], "object": mask(it["object"])}
    if kind == "Status":
        return it
    if kind == "Table":
        return {**it, "rows": [_row(row) for row in _objects(it.get("rows"))]}
    if kind in ("SecretList", "PartialObjectMetadataList"):
        return {**it, "items": [masked(item) for item in _objects(it.get("items"))]}
    if kind in ("Secret", "PartialObjectMetadata"):
        return masked(it)
    raise Unmaskable("the API server's answer is of a kind that is not known here, so that it is not masked")


def _row(row: dict[str, Any]) -> dict[str, Any]:
    held = row.get("object")
    return {**row, "object": masked(held)} if isinstance(held, dict) else row


def _objects(found: Any) -> list[dict[str, Any]]:
    if found is None:
        return []
    if not isinstance(found, list) or not all(isinstance(it, dict) for it in found):
        raise Unmaskable("the API server's answer holds what is no object")
    return found


def masked(secret: dict[str, Any], mark: Mark | None = None) -> dict[str, Any]:
    """One Secret with `mark(value)`, or the mask, for each value; fields that are not known are left out.

    Who owns which field is left out: it changes with whether what was written is what is there.
    What notes hold is masked too: people copy values there, and kubectl keeps the whole object in one. A note
    cannot be held against the data, which an answer of metadata alone has not.
    """
    clean = {key: value for key, value in secret.items() if key in _KEPT}
    values = [value for key in ("data", "stringData") for value in _values(secret.get(key))]
    for key in ("data", "stringData"):
        if isinstance(held := secret.get(key), dict):
            clean[key] = {name: mark(value) if mark else MASK_BASE64 for name, value in held.items()}
    if isinstance(meta := clean.get("metadata"), dict):
        clean["metadata"] = _metadata(meta, _spellings(values), mark)
    return clean


def _values(held: Any) -> list[str]:
    return [value for value in held.values() if isinstance(value, str)] if isinstance(held, dict) else []


def _spellings(values: list[str]) -> set[str]:
    """The values as they stand, and as they are meant."""
    found = set(values)
    for value in values:
        try:
            found.add(base64.b64decode(value, validate=True).decode())
        except ValueError:
            continue
    return {it for it in found if len(it) >= _SHORT}


def _metadata(meta: dict[str, Any], values: set[str], mark: Mark | None) -> dict[str, Any]:
    clean = {name: value for name, value in meta.items() if name != "managedFields"}
    if isinstance(notes := meta.get("annotations"), dict):
        clean["annotations"] = {name: mark(it) if mark else _note(it) for name, it in notes.items()}
    if isinstance(labels := meta.get("labels"), dict):
        clean["labels"] = {
            name: MASK if any(it in str(value) for it in values) else value for name, value in labels.items()
        }
    return clean


def _note(value: Any) -> str:
    """An object stays one: kubectl reads its own note."""
    return "{}" if isinstance(value, str) and value.startswith("{") else MASK


# --------------------------------------------------------- for other readers


def for_people(secret: dict[str, Any], key: bytes) -> dict[str, Any]:
    """A Secret for a diff: equal values have equal marks, and no mark tells its value without `key`."""

    def mark(value: Any) -> str:
        digest = hmac.digest(key, json.dumps(value, sort_keys=True).encode(), hashlib.sha256)
        return f"masked #{digest.hex()[:8]}"

    return masked(secret, mark)
