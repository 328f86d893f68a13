"""The second reading of a command line, by tree-sitter's grammar of bash, and what both make of it.

The two readings must find the same words, at the same places; where they do not, where the tree has an error
or a node that is not listed here, the line is unread, which is the most dangerous thing that it can be.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import tree_sitter_bash
from tree_sitter import Language, Node, Parser

from proxy.sql.classify import worst_of
from proxy.ssh.shell.commands import (
    ADMIN,
    DESTRUCTIVE,
    NOBODY_KNOWS,
    READ,
    UNKNOWN,
    WRITE,
    Arguments,
    Effect,
    effect,
    is_kernel,
    known_name,
    marks,
)
from proxy.ssh.shell.rules import RULES, harmless_assignment
from proxy.ssh.shell.words import Unread, Word, words_of
from workflows.model import StatementClass

_LANGUAGE = Language(tree_sitter_bash.language())
_DEEPEST = 6

_WORDS = frozenset(
    [
        "word",
        "string",
        "raw_string",
        "concatenation",
        "simple_expansion",
        "expansion",
        "number",
        "command_substitution",
        "process_substitution",
        "variable_assignment",
        "variable_name",
        "regex",
        "extglob_pattern",
        "test_operator",
    ]
)
_KEYWORDS = frozenset(
    ["if", "then", "elif", "else", "fi", "for", "in", "do", "done", "while", "until", "{", "}", "!", "[", "]"]
)
_STRUCTURE = frozenset(
    [
        "program",
        "command",
        "command_name",
        "pipeline",
        "list",
        "redirected_statement",
        "subshell",
        "compound_statement",
        "if_statement",
        "elif_clause",
        "else_clause",
        "for_statement",
        "while_statement",
        "do_group",
        "negated_command",
        "test_command",
        "variable_assignments",
        "declaration_command",
        "file_redirect",
        "herestring_redirect",
        "file_descriptor",
        "unary_expression",
        "binary_expression",
        "negation_expression",
        "parenthesized_expression",
    ]
)
_SIGNS = frozenset(
    [
        ";",
        "&",
        "&&",
        "||",
        "|",
        "|&",
        "(",
        ")",
        ">",
        ">>",
        "<",
        ">|",
        "&>",
        "&>>",
        ">&",
        "<&",
        "<<<",
        "<>",
        "$(",
        "<(",
        ">(",
        "=",
        "==",
        "!=",
        "-a",
        "-o",
        "export",
    ]
)
_DISCARDED = frozenset({"/dev/null", "/dev/stdout", "/dev/stderr", "/dev/tty"})
_PAGERS = frozenset(
    {"journalctl", "systemctl", "git", "apt", "docker", "loginctl", "timedatectl", "hostnamectl"}
)


@dataclass(frozen=True, slots=True)
class Command:
    """One command of a line. `words` begin with its name, None for each that is known only when it runs; what
    is redirected is a command called `>` or `<`. `traits` are what it is beside its name.
    """

    words: Arguments
    statement_class: StatementClass
    traits: frozenset[str] = frozenset()

    @property
    def name(self) -> str:
        return (self.words[0] if self.words else "") or ""

    @property
    def kinds(self) -> frozenset[str]:
        return self.traits | ({known} if (known := known_name(self.name)) else frozenset())


@dataclass(frozen=True, slots=True)
class Line:
    """A line as it was read. With a `problem` it was not, and then it has no commands."""

    text: str
    commands: tuple[Command, ...] = ()
    problem: str = ""

    @property
    def statement_class(self) -> StatementClass:
        return UNKNOWN if self.problem else worst_of(command.statement_class for command in self.commands)

    @property
    def classes(self) -> frozenset[StatementClass]:
        return (
            frozenset(it.statement_class for it in self.commands)
            if not self.problem
            else frozenset({UNKNOWN})
        )

    @property
    def kinds(self) -> frozenset[str]:
        return frozenset().union(*(command.kinds for command in self.commands))


def read(text: str, *, terminal: bool = False) -> Line:
    """Read a line; never raises. With a `terminal`, programs that page what they show take orders."""
    try:
        found = _Reading(terminal).line(text, 0)
    except Unread as error:
        return Line(text, problem=str(error))
    except Exception as error:  # a shape nobody thought of: unread means refused
        return Line(text, problem=f"the gate failed to read it ({type(error).__name__})")
    return Line(text, _with_downloads(found))


class _Reading:
    def __init__(self, terminal: bool) -> None:
        self._terminal = terminal

    def line(self, text: str, depth: int) -> tuple[Command, ...]:
        if depth > _DEEPEST:
            raise Unread("it nests deeper than the gate reads")
        words = words_of(text)
        if not words:
            raise Unread("there is no command in it")
        # tree-sitter counts bytes, the lexer characters: where they differ, positions are translated.
        raw = text.encode()
        root = Parser(_LANGUAGE).parse(raw).root_node
        if root.has_error:
            raise Unread("it is not written as a shell reads it")
        starts = _characters(text)
        spans = {(starts[a], starts[b]) for a, b in _spans(root)}
        if spans != {(word.start, word.end) for word in words}:
            raise Unread("two readings of it disagree")
        by_span = {(word.start, word.end): word for word in words}

        def word_at(node: Node) -> Word:
            return by_span[starts[node.start_byte], starts[node.end_byte]]

        found: list[Command] = []
        for node in _nodes(root):
            if node.type == "command":
                found += self._command([word_at(part) for part in _parts(node)], depth)
            elif node.type == "test_command" or node.type == "declaration_command":
                found += self._command([word_at(part) for part in _inside(node)], depth)
            elif node.type in ("file_redirect", "herestring_redirect"):
                found += self._redirection(node, word_at)
            elif node.type == "variable_assignment" and not _in_command(node):
                found.append(self._assignment(word_at(node), text))
            elif node.type == "for_statement" and (name := node.child_by_field_name("variable")):
                found += self._loops_over(word_at(name))
        if not found:
            raise Unread("there is no command in it")
        return tuple(found)

    # ------------------------------------------------------------- commands

    def _command(self, words: list[Word], depth: int) -> Iterator[Command]:
        return self._run(tuple(_argument(word) for word in words), depth)

    def _run(self, words: Arguments, depth: int) -> Iterator[Command]:
        """A command, and those that it runs."""
        if depth > _DEEPEST:
            raise Unread("it nests deeper than the gate reads")
        rest = list(words)
        while rest and rest[0] is not None and _assigns(rest[0]):
            assigned = rest.pop(0)
            if not harmless_assignment(assigned or ""):
                yield Command((assigned,), UNKNOWN)
        if not rest:
            return
        name = known_name(rest[0])
        it = RULES.get(name, _unlisted)(tuple(rest[1:])) if name else NOBODY_KNOWS
        if self._terminal and name in _PAGERS and not _unpaged(name, rest):
            it = Effect(UNKNOWN, it.traits | {"interpreter"})
        traits = it.traits | marks(name or "", tuple(rest[1:]), it)
        of_class = it.statement_class
        if of_class is WRITE:
            of_class = _worse_by_operands(rest[1:], traits)
        yield Command(tuple(rest), of_class, traits)
        for run in it.runs:
            yield from self._run(run, depth + 1)
        if it.script is not None:
            yield from self.line(it.script, depth + 1)

    def _assignment(self, word: Word, text: str) -> Command:
        said = text[word.start : word.end]
        return Command((said.partition("=")[0] + "=",), READ if harmless_assignment(said) else UNKNOWN)

    def _loops_over(self, name: Word) -> Iterator[Command]:
        """`for PATH in …` sets it as an assignment does."""
        if not harmless_assignment(f"{name.value}="):
            yield Command((f"{name.value}=",), UNKNOWN)

    def _redirection(self, node: Node, word_at: object) -> Iterator[Command]:
        assert callable(word_at)
        operator = next((part.type for part in node.children if not part.is_named), "")
        targets = [part for part in node.children if part.type in _WORDS]
        if len(targets) != 1:
            raise Unread("it redirects in a way that is not read")
        target = _argument(word_at(targets[0]))
        if operator == "<<<":
            return
        if operator in (">&", "<&") and target is not None and target.isdigit():
            return
        yield _redirected(operator, target)


def _redirected(operator: str, target: str | None) -> Command:
    reads = operator == "<"
    if target is None:
        return Command(("<" if reads else ">", None), READ if reads else DESTRUCTIVE)
    if target.startswith(("/dev/tcp", "/dev/udp")) or "//" in target[:5]:
        return Command(("<" if reads else ">", target), UNKNOWN, frozenset({"network"}))
    if reads or target in _DISCARDED:
        return Command(("<" if reads else ">", target), READ)
    traits = marks(">", (target,), effect(WRITE))
    return Command((">", target), _worse_by_operands([target], traits), traits)


def _worse_by_operands(operands: list[str | None], traits: frozenset[str]) -> StatementClass:
    """The class of what writes, by where to: a disk, or a switch of the kernel's."""
    if "raw_device" in traits:
        return DESTRUCTIVE
    return ADMIN if any(is_kernel((it or "").rpartition("=")[2]) for it in operands) else WRITE


def _unpaged(name: str, words: list[str | None]) -> bool:
    """Whether --no-pager stands where it is an option: git's before its verb, others' before --."""
    options = words[1 : words.index("--")] if "--" in words else words[1:]
    if name != "git":
        return "--no-pager" in options
    while options[:1] == ["-C"]:
        options = options[2:]
    return options[:1] == ["--no-pager"]


def _unlisted(arguments: Arguments) -> Effect:
    return NOBODY_KNOWS


def _argument(word: Word) -> str | None:
    """What a command gets: None where it may be another word, or several that may begin with a dash."""
    if word.value is None or (word.spread and word.value[:1] in ("*", "?", "[", "{", "-")):
        return None if word.value != "[" else "["
    return word.value


def _assigns(word: str) -> bool:
    name, equals, _ = word.partition("=")
    return bool(equals) and name.isidentifier() and name.isascii()


def _with_downloads(commands: tuple[Command, ...]) -> tuple[Command, ...]:
    """What comes from elsewhere and what runs it, in one line, is one thing."""
    fetched = any(it.name.rpartition("/")[2] in ("curl", "wget", "fetch") for it in commands)
    run = any("interpreter" in it.traits for it in commands)
    if not (fetched and run):
        return commands
    return tuple(replace(it, traits=it.traits | {"download_and_run"}) for it in commands)


# ------------------------------------------------------------------ the tree


def _nodes(root: Node) -> Iterator[Node]:
    """Every node in order of its place. Raises Unread for one that is not listed."""
    todo = [root]
    while todo:
        node = todo.pop()
        yield node
        todo += reversed(node.children)


def _spans(root: Node) -> Iterator[tuple[int, int]]:
    """Where the tree has words, those of lines inside words among them. Raises Unread for unlisted nodes."""
    todo = [root]
    while todo:
        node = todo.pop()
        if _is_word(node):
            yield node.start_byte, node.end_byte
            todo += _lines_in(node)
        elif node.type in _STRUCTURE or (not node.is_named and node.type in _SIGNS):
            todo += node.children
        else:
            raise Unread(f"{node.type.replace('_', ' ').strip()[:40]!r} is not read")


def _is_word(node: Node) -> bool:
    if node.is_named:
        return node.type in _WORDS
    compares = node.parent is not None and node.parent.type == "binary_expression"
    return compares or node.type in _KEYWORDS


def _lines_in(word: Node) -> list[Node]:
    """What stands inside the substitutions of a word."""
    found: list[Node] = []
    todo = [word]
    while todo:
        node = todo.pop()
        if node.type in ("command_substitution", "process_substitution"):
            found += [child for child in node.children if child.is_named]
        else:
            todo += node.children
    return found


def _parts(command: Node) -> list[Node]:
    """A command's words: its assignments, its name, its arguments."""
    found = []
    for child in command.children:
        if child.type == "command_name":
            found += child.children or [child]
        elif child.type in _WORDS:
            found.append(child)
    return found


def _inside(node: Node) -> list[Node]:
    found = []
    todo = [node]
    while todo:
        part = todo.pop(0)
        if _is_word(part) and part.type != "]":
            found.append(part)
        else:
            todo = [*part.children, *todo]
    return found


def _in_command(node: Node) -> bool:
    return node.parent is not None and node.parent.type in ("command", "declaration_command")


def _characters(text: str) -> dict[int, int]:
    """From places in bytes to places in characters."""
    places, at = {0: 0}, 0
    for index, char in enumerate(text, 1):
        at += len(char.encode())
        places[at] = index
    return places
