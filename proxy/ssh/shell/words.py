"""The first reading of a command line: its words, by the gate's own lexer (POSIX.1-2024, 2.2, 2.3, 2.10).

It is strict on purpose. What shells read differently, or what hides text from one of them, is no word but a
problem: comments, backticks, $'…' and $"…", arithmetic, here-documents, line continuations, unprintable
characters, brackets that touch a word. The second reading (read.py) must find the same words.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field

MOST = 64 * 1024
"""Characters of a line that is read."""
_DEEPEST = 8
_BLANK = " \t"
_META = frozenset(" \t\n;&|<>()")
_GLOB = frozenset("*?[")
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*|[0-9@*#?$!-]")
_BRACED = re.compile(r"\{([A-Za-z_][A-Za-z0-9_]*|[0-9@*#?$!-])\}")
_REDIRECTION = re.compile(r"&>>|&>|<<<|>>|>\||>&|<&|<>|>|<")
_OPERATOR = re.compile(r"&&|\|\||\|&|;|&|\|")


class Unread(ValueError):
    """The line cannot be read for certain. The text says why."""


@dataclass(frozen=True, slots=True)
class Word:
    """One word, from `start` to `end` of the text. `value` is what the command gets, None where that is only
    known when it runs. `spread` says that it may become other words or several: a pattern, {a,b}, or $x
    without quotes. `quoted` says that some of it is quoted.
    """

    start: int
    end: int
    value: str | None
    spread: bool = False
    quoted: bool = False


@dataclass
class _Reader:
    text: str
    words: list[Word] = field(default_factory=list)
    at: int = 0

    def line(self, depth: int, *, closes: bool) -> None:
        """Words up to the end, or up to the bracket that closes this list."""
        if depth > _DEEPEST:
            raise Unread("it nests deeper than the gate reads")
        text = self.text
        while self.at < len(text):
            char = text[self.at]
            if char in _BLANK or char == "\n":
                self.at += 1
            elif char == "#":
                raise Unread("shells differ in whether they read comments")
            elif found := _REDIRECTION.match(text, self.at):
                self._redirection(found[0], depth)
            elif found := _OPERATOR.match(text, self.at):
                self.at = found.end()
            elif char == "(":
                if text.startswith("((", self.at):
                    raise Unread("arithmetic can run commands")
                self.at += 1
                self.line(depth + 1, closes=True)
            elif char == ")":
                if not closes:
                    raise Unread("a bracket closes that was not opened")
                self.at += 1
                return
            else:
                self._word(depth)
        if closes:
            raise Unread("a bracket is not closed")

    def _redirection(self, operator: str, depth: int) -> None:
        if self.text.startswith("<<", self.at) and operator != "<<<":
            raise Unread("a here-document is not read")
        if operator in ("<", ">") and self.text.startswith("(", self.at + 1):
            self._word(depth)
            return
        self.at += len(operator)

    def _word(self, depth: int) -> None:
        start, text = self.at, self.text
        parts: list[str] = []
        known, spread, quoted = True, False, False
        while self.at < len(text) and ((char := text[self.at]) not in _META or self._substitutes()):
            if char == "'":
                parts.append(self._single())
                quoted = True
            elif char == '"':
                part = self._double(depth)
                known, quoted = known and part is not None, True
                parts.append(part or "")
            elif char == "\\":
                parts.append(self._escaped())
                quoted = True
            elif char == "$" and (self.text[self.at + 1 : self.at + 2] or " ") in _META - {"("}:
                parts.append(char)
                self.at += 1
            elif char in "$<>":
                self._expansion(depth)
                known, spread = False, True
            elif char == "`":
                raise Unread("backticks are not read; write $(…)")
            else:
                spread = spread or char in _GLOB or (char == "{" and self._braces())
                parts.append(char)
                self.at += 1
        if text.startswith("(", self.at):
            raise Unread("a bracket touches a word, which shells read differently")
        if not (quoted or spread) and text[self.at : self.at + 1] in ("<", ">") and "".join(parts).isdigit():
            return  # the number of what is redirected
        self.words.append(Word(start, self.at, "".join(parts) if known else None, spread, quoted))

    def _substitutes(self) -> bool:
        """Whether a process substitution stands here, which is a part of a word."""
        return self.text[self.at] in "<>" and self.text.startswith("(", self.at + 1)

    def _braces(self) -> bool:
        """{a,b} and {1..3} become several words; { alone, {} and {x} do not."""
        end = self.text.find("}", self.at)
        inside = self.text[self.at + 1 : end] if end > 0 else ""
        return "," in inside or ".." in inside

    def _single(self) -> str:
        end = self.text.find("'", self.at + 1)
        if end < 0:
            raise Unread("a quote is not closed")
        inside, self.at = self.text[self.at + 1 : end], end + 1
        return inside

    def _double(self, depth: int) -> str | None:
        self.at += 1
        parts: list[str] = []
        known = True
        while self.at < len(self.text):
            char = self.text[self.at]
            if char == '"':
                self.at += 1
                return "".join(parts) if known else None
            if char == "$":
                known = self._in_quotes(depth) and known
                parts.append("$")
            elif char == "`":
                raise Unread("backticks are not read; write $(…)")
            elif char == "\\" and self.text[self.at + 1 : self.at + 2] in ("$", '"', "\\", "`"):
                parts.append(self.text[self.at + 1])
                self.at += 2
            else:
                if char == "\\" and self.text.startswith("\n", self.at + 1):
                    raise Unread("a line goes on in the next")
                parts.append(char)
                self.at += 1
        raise Unread("a quote is not closed")

    def _in_quotes(self, depth: int) -> bool:
        """A $ in double quotes; whether it is only itself."""
        following = self.text[self.at + 1 : self.at + 2]
        if following and (following in "({" or _NAME.match(following)):
            self._expansion(depth)
            return False
        self.at += 1
        return True

    def _escaped(self) -> str:
        following = self.text[self.at + 1 : self.at + 2]
        if following in ("", "\n"):
            raise Unread("a line goes on in the next")
        self.at += 2
        return following

    def _expansion(self, depth: int) -> None:
        text = self.text
        if text.startswith("$((", self.at) or text.startswith("$[", self.at):
            raise Unread("arithmetic can run commands")
        if text[self.at] in "<>" or text.startswith("$(", self.at):
            self.at += 2
            self.line(depth + 1, closes=True)
        elif text.startswith(("$'", '$"'), self.at):
            raise Unread("shells differ in how they read $'…'")
        elif found := _BRACED.match(text, self.at + 1) or _NAME.match(text, self.at + 1):
            self.at = found.end()
        else:
            raise Unread("only $name, ${name} and $(…) are read")


def words_of(text: str) -> list[Word]:
    """The words of a line, those of the lines inside it among them, in the order of their ends.

    Raises Unread.
    """
    if len(text) > MOST:
        raise Unread(f"it is longer than {MOST} characters")
    for char in text:
        if char not in "\t\n" and not char.isprintable():
            raise Unread("it has characters that cannot be seen")
        if not char.isascii() and char.isspace():
            raise Unread("it has spaces that some shells read as letters")
    reader = _Reader(text)
    reader.line(0, closes=False)
    return reader.words
