"""What a role may do with a host's files, by their paths."""

from __future__ import annotations

import posixpath
import re
from functools import lru_cache

from workflows.model import FileRule

KEYS = ".ssh"
"""The folder of a person's own keys, which would lead round the gate."""


def permitted(rules: tuple[FileRule, ...], operation: str, path: str) -> bool:
    """Whether an operation (list, read, write, delete) may be done with the file at an absolute `path`.

    The first rule that fits the path decides; where none does, no. What is in a folder .ssh is changed only
    by a rule that names one.
    """
    path = posixpath.normpath("/" + path.lstrip("/"))  # two slashes at the beginning would stay two
    changes = operation in ("write", "delete") and KEYS in path.split("/")
    for rule in rules:
        fitting = [pattern for pattern in rule.paths if _pattern(pattern).fullmatch(path)]
        if fitting:
            named = not changes or any(KEYS in pattern for pattern in fitting)
            return operation in rule.allow and named
    return False


def everywhere(rules: tuple[FileRule, ...], operation: str) -> bool:
    """Whether the operation may be done with any file, so that its path need not be looked at."""
    return (
        bool(rules)
        and "/**" in rules[0].paths
        and operation in rules[0].allow
        and operation in ("list", "read")
    )


@lru_cache(maxsize=1024)
def _pattern(pattern: str) -> re.Pattern[str]:
    """`/**` at the end is a folder and all that is in it; elsewhere `**` is any part of a path."""
    head = pattern.removesuffix("/**")
    parts = [
        ".*" if part == "**" else "[^/]*" if part == "*" else re.escape(part)
        for part in re.split(r"(\*\*|\*)", head)
    ]
    tail = "(/.*)?" if head != pattern else ""
    return re.compile("".join(parts) + tail, re.S)
