"""Under which licences the packages are that an installation brings along, for docs/reference.

Read from the packages' own metadata, for Linux and the oldest Python that is supported.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from importlib.metadata import distribution

from packaging.requirements import Requirement

ENVIRONMENT = {
    "sys_platform": "linux",
    "platform_system": "Linux",
    "platform_machine": "x86_64",
    "platform_python_implementation": "CPython",
    "implementation_name": "cpython",
    "os_name": "posix",
    "python_version": "3.11",
    "python_full_version": "3.11.7",
}
_PREFIX = re.compile(r"^License( :: OSI Approved)? :: ")


def page() -> Iterator[str]:
    """The lines of docs/reference/licences.md."""
    yield "# Licences\n"
    yield (
        "Portcullis is under the [Apache License 2.0](../../LICENSE). This is what `pip install` "
        "brings along, as each package says of itself. All of it is imported as it is, changed nowhere, and "
        "can be replaced by another version of the same, which is what the LGPL asks for.\n"
    )
    yield "| Package | Licence |\n|---|---|"
    for name in sorted(needed("portcullis")):
        yield f"| {name} | {licence(name)} |"


def needed(root: str) -> set[str]:
    """The packages that `root` needs, and those that they need."""
    found: set[str] = set()
    waiting = [(root, frozenset[str]())]
    seen: set[tuple[str, frozenset[str]]] = set()
    while waiting:
        name, extras = waiting.pop()
        if (name, extras) in seen:
            continue
        seen.add((name, extras))
        for line in distribution(name).requires or ():
            requirement = Requirement(line)
            if _applies(requirement, extras):
                needs = re.sub(r"[-_.]+", "-", requirement.name).lower()
                found.add(needs)
                waiting.append((needs, frozenset(requirement.extras)))
    return found


def _applies(requirement: Requirement, extras: frozenset[str]) -> bool:
    if requirement.marker is None:
        return True
    return any(requirement.marker.evaluate({**ENVIRONMENT, "extra": extra}) for extra in {"", *extras})


def licence(name: str) -> str:
    """What a package says of its licence: an SPDX expression, a short text, or its classifiers."""
    said = distribution(name).metadata
    if "License-Expression" in said:
        return said["License-Expression"]
    classes = [c for c in said.get_all("Classifier") or () if c.startswith("License ::")]
    named = [_PREFIX.sub("", c) for c in classes if c != "License :: OSI Approved"]
    text = said["License"].strip() if "License" in said else ""
    if text and len(text) < 60:
        return text.splitlines()[0]
    return ", ".join(named) or (text.splitlines() or ["not said"])[0]
