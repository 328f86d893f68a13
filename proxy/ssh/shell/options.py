"""Looking at a command's options."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from proxy.ssh.shell.commands import NOBODY_KNOWS, Arguments, Effect


def strict(rule: Callable[[tuple[str, ...]], Effect], arguments: Arguments) -> Effect:
    """For rules that have to see every word."""
    known = tuple(word for word in arguments if word is not None)
    return rule(known) if len(known) == len(arguments) else NOBODY_KNOWS


def has(words: Iterable[str], *options: str) -> bool:
    """Whether an option is there: `-o` also among other letters or with a value, `--long` also shortened."""
    for word in words:
        for option in options:
            if option.startswith("--"):
                name = word.partition("=")[0]
                if len(name) > 3 and word.startswith("--") and option.startswith(name):
                    return True
            elif word.startswith("-") and not word.startswith("--") and option[1] in word[1:]:
                return True
    return False


def unless(bad: str, good: Effect, otherwise: Effect, words: tuple[str, ...]) -> Effect:
    return otherwise if has(words, *bad.split()) else good


def operands(words: Iterable[str]) -> list[str]:
    return [word for word in words if not word.startswith("-")]
