"""YAML with positions: plain data, and where in the file each part of it stands."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import yaml

from broker.config import Problem

Path = tuple[str | int, ...]
MOST_BYTES = 4_000_000


@dataclass
class Marked:
    """`data` as YAML means it; `at` gives line and column (from 1) of a value or, with `key`, of its key."""

    file: str
    data: Any = None
    values: dict[Path, tuple[int, int]] = field(default_factory=dict)
    keys: dict[Path, tuple[int, int]] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)

    def problem(self, path: Path, what: str, suggestion: str = "", *, key: bool = False) -> Problem:
        """A problem at this path, or at the nearest part of the file around it."""
        return Problem(self.file, *self._at(path, key), what, suggestion)

    def _at(self, path: Path, key: bool) -> tuple[int, int]:
        if key and path in self.keys:
            return self.keys[path]
        while path:
            if path in self.values:
                return self.values[path]
            path = path[:-1]
        return self.values.get((), (1, 1))


def read(file: str, text: str) -> Marked:
    """Read YAML. What cannot be read is one problem; a key given twice is a problem of its own."""
    marked = Marked(file)
    if len(text) > MOST_BYTES:
        marked.problems.append(Problem(file, 1, 1, "the file is larger than 4 MB"))
        return marked
    loader = yaml.SafeLoader(text)
    try:
        node = loader.get_single_node()
        marked.data = _value(loader, node, (), marked, set()) if node is not None else {}
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line, column = (mark.line + 1, mark.column + 1) if mark else (1, 1)
        what = f"this is not YAML: {error.problem or error.context or 'cannot be read'}"
        marked.problems.append(Problem(file, line, column, what, _hint(text, line)))
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        marked.problems.append(Problem(file, 1, 1, f"this is not YAML: {str(error).splitlines()[0]}"))
    finally:
        loader.dispose()
    return marked


def _value(loader: Any, node: yaml.Node, path: Path, marked: Marked, inside: set[int]) -> Any:
    position = (node.start_mark.line + 1, node.start_mark.column + 1)
    marked.values[path] = position
    if id(node) in inside:
        marked.problems.append(marked.problem(path, "an alias here contains itself"))
        return None
    inside = inside | {id(node)}
    if isinstance(node, yaml.MappingNode):
        loader.flatten_mapping(node)
        return dict(_pairs(loader, node, path, marked, inside))
    if isinstance(node, yaml.SequenceNode):
        return [_value(loader, item, (*path, i), marked, inside) for i, item in enumerate(node.value)]
    return loader.construct_object(node)


def _pairs(
    loader: Any, node: yaml.MappingNode, path: Path, marked: Marked, inside: set[int]
) -> Iterator[tuple[str, Any]]:
    seen: set[str] = set()
    for key_node, value_node in node.value:
        key = str(key_node.value)  # as written: `no:` and `1:` are names here, not booleans and numbers
        here = (*path, key)
        marked.keys[here] = (key_node.start_mark.line + 1, key_node.start_mark.column + 1)
        if key in seen:
            marked.problems.append(
                marked.problem(here, f"“{key}” is given twice", "remove one of them", key=True)
            )
        seen.add(key)
        yield key, _value(loader, value_node, here, marked, inside)


def _hint(text: str, line: int) -> str:
    lines = text.splitlines()
    if 0 < line <= len(lines) and "\t" in lines[line - 1]:
        return "indent with spaces, not with tabs"
    return ""
