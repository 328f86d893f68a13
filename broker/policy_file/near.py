"""What was probably meant."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from rapidfuzz import process

from broker.config import Problem
from broker.policy_file import marks
from broker.policy_file.marks import Marked


def near(word: str, known: Iterable[str]) -> str:
    """“did you mean …?”, or what there is."""
    names = list(known)
    if found := process.extractOne(word, names, score_cutoff=70):
        return f"did you mean “{found[0]}”?"
    return f"known here: {', '.join(names)}" if names else ""


def unknown(
    marked: Marked, path: marks.Path, names: list[str], known: Iterable[str], what: str
) -> Iterator[Problem]:
    """A problem for each name that is not known."""
    for index, name in enumerate(names):
        if name not in set(known):
            yield marked.problem((*path, index), f"there is no {what} “{name}”", near(name, known))
