"""What a write would change, for whoever decides about it: the object before and after, as a diff."""

from __future__ import annotations

import difflib
from typing import Any

import yaml

from proxy.kubernetes import secrets

_NOISE = ("managedFields", "resourceVersion", "generation", "uid", "creationTimestamp", "selfLink")
_APPLIED = "kubectl.kubernetes.io/last-applied-configuration"
_CONTEXT = 2


def plain(it: dict[str, Any], mask_key: bytes) -> dict[str, Any]:
    """An object without what the server writes for itself, and without the data of a Secret."""
    if it.get("kind") == "Secret":
        it = secrets.for_people(it, mask_key)
    clean = {key: value for key, value in it.items() if key != "status"}
    meta = clean.get("metadata")
    if isinstance(meta, dict):
        meta = {key: value for key, value in meta.items() if key not in _NOISE}
        if isinstance(notes := meta.get("annotations"), dict):
            kept = {key: value for key, value in notes.items() if key != _APPLIED}
            meta = (
                {**meta, "annotations": kept}
                if kept
                else {k: v for k, v in meta.items() if k != "annotations"}
            )
        clean["metadata"] = meta
    return clean


def diff(live: dict[str, Any] | None, after: dict[str, Any] | None, mask_key: bytes) -> str:
    """A unified diff of the two in YAML; None is an object that is not there."""
    before, then = _lines(live, mask_key), _lines(after, mask_key)
    lines = difflib.unified_diff(before, then, "live", "after", n=_CONTEXT, lineterm="")
    return "\n".join(lines)


def _lines(it: dict[str, Any] | None, mask_key: bytes) -> list[str]:
    if it is None:
        return []
    return yaml.safe_dump(plain(it, mask_key), sort_keys=True, allow_unicode=True, width=100).splitlines()
