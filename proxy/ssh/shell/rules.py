"""Commands whose options decide what they do, and commands that run others.

Where an option could be anything (a variable, a pattern that may begin with a dash), the command is unknown.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from functools import partial

from proxy.ssh.shell.commands import (
    ADMIN,
    DESTRUCTIVE,
    INTERPRETER,
    NOBODY_KNOWS,
    READ,
    TABLE,
    UNKNOWN,
    WRITE,
    Arguments,
    Effect,
    Rule,
    effect,
)
from proxy.ssh.shell.options import has, operands, strict, unless
from proxy.ssh.shell.programs import (
    cargo,
    container,
    curl,
    git,
    journalctl,
    packages,
    rsync,
    scp,
    service,
    systemctl,
    wget,
)

# ------------------------------------------------------------- files and texts


def _rm(arguments: Arguments) -> Effect:
    recursive = any(word is None for word in arguments) or has(
        [word for word in arguments if word is not None], "-r", "-R", "--recursive"
    )
    return effect(DESTRUCTIVE, "recursive_delete") if recursive else effect(DESTRUCTIVE)


def _permissions(arguments: Arguments) -> Effect:
    words = [word for word in arguments if word is not None]
    if len(words) < len(arguments) or has(words, "-R", "--recursive"):
        return effect(ADMIN, "recursive_permissions")
    if any(_sets_id(word) for word in words) or has(words, "--reference"):
        return effect(ADMIN, "privilege")
    return effect(WRITE)


_SETS_ID = re.compile(
    r"[-+=]?[0-7]*[2-7][0-7]{3}|[ugoa]*([-+=][rwxXstugo]*)*[+=][rwxXt]*s[rwxXst]*([-+=].*)?"
)


def _sets_id(mode: str) -> bool:
    """Whether a mode, as chmod and install take it, may set the user's or the group's id."""
    return any(_SETS_ID.fullmatch(part) for part in mode.split(","))


def _install(words: tuple[str, ...]) -> Effect:
    """Without -m it sets 755; --strip-program runs one."""
    if has(words, "-s", "--strip-program", "--strip"):
        return NOBODY_KNOWS
    modes = (
        [word.partition("=")[2] or word.lstrip("-m") for word in words] if has(words, "-m", "--mode") else []
    )
    return effect(ADMIN, "privilege") if any(map(_sets_id, modes)) else effect(WRITE)


def _dd(words: tuple[str, ...]) -> Effect:
    target = next((word[3:] for word in words if word.startswith("of=")), "")
    if not target:
        return effect(READ)
    return effect(DESTRUCTIVE, "raw_device") if target.startswith("/dev/") else effect(DESTRUCTIVE)


_FIND_RUNS = ("-exec", "-execdir", "-ok", "-okdir")


def _find(words: tuple[str, ...]) -> Effect:
    runs: list[Arguments] = []
    of_class = READ
    for index, word in enumerate(words):
        if word in _FIND_RUNS:
            command: list[str | None] = []
            for part in words[index + 1 :]:
                if part in (";", "+"):
                    break
                command.append(None if "{}" in part else part)
            runs.append(tuple(command))
        elif word == "-delete":
            of_class = DESTRUCTIVE
        elif word.startswith(("-fprint", "-fls")) and of_class is READ:
            of_class = WRITE
    traits = frozenset({"recursive_delete"}) if of_class is DESTRUCTIVE else frozenset()
    return Effect(of_class, traits, tuple(runs))


_SED_SAFE = re.compile(
    r"(?:[0-9$]+(?:,[0-9$+]+)?|/[^/]*/)?[pdq=]|s([/|,#])(?:(?!\1).)*\1(?:(?!\1).)*\1[gip0-9]*", re.I
)


def _sed(words: tuple[str, ...]) -> Effect:
    """A script may write files and run commands: only plain printing, deleting and replacing is read."""
    scripts: list[str] = []
    rest = list(words)
    in_place = False
    while rest and rest[0].startswith("-"):
        option = rest.pop(0)
        if option in ("-n", "-E", "-r", "-s", "-u", "-z", "-nE", "-nr", "-En"):
            continue
        if re.fullmatch(r"-i(\.[\w.]+)?|--in-place", option):
            in_place = True
        elif option == "-e" and rest:
            scripts.append(rest.pop(0))
        else:
            return NOBODY_KNOWS
    if not scripts and rest:
        scripts.append(rest.pop(0))
    if any(word.startswith("-") for word in rest):
        return NOBODY_KNOWS
    parts = [part.strip() for script in scripts for part in script.split(";")]
    if not parts or not all(map(_SED_SAFE.fullmatch, parts)):
        return NOBODY_KNOWS
    return effect(WRITE if in_place else READ)


_TAR_LONG = re.compile(
    r"--(list|create|extract|append|update|gzip|xz|zstd|verbose|exclude=.*|strip-components=\d+)"
)


def _tar(words: tuple[str, ...]) -> Effect:
    """Other long options may run commands, also shortened; so may the letters I and F, and an archive whose
    name has a colon, which is on another machine.
    """
    options = [
        words[0] if words else "",
        *(word for word in words[1:] if word.startswith("-") and word != "-"),
    ]
    if not all(_TAR_LONG.fullmatch(it) or re.fullmatch(r"-?[tcxruvzjJfpkmCahO]+", it) for it in options):
        return NOBODY_KNOWS
    if any(":" in word for word in words):
        return effect(UNKNOWN, "network")
    first = options[0]
    # Behind f and C of a word with a dash stands their value: in -cft the archive is t.
    letters = re.split("[fC]", first)[0] if first.startswith("-") else first
    lists = first == "--list" or ("t" in letters and not set(letters) & set("cxru"))
    return effect(READ if lists else WRITE)


def _uniq(words: tuple[str, ...]) -> Effect:
    return effect(READ if len(operands(words)) < 2 else WRITE)


def _date(words: tuple[str, ...]) -> Effect:
    sets = has(words, "-s", "--set") or any(not word.startswith(("-", "+")) for word in words)
    return effect(ADMIN) if sets else effect(READ)


def _hostname(words: tuple[str, ...]) -> Effect:
    return effect(READ if all(re.fullmatch(r"-[aAdfiIsy]|--fqdn|--short", it) for it in words) else ADMIN)


def _top(words: tuple[str, ...]) -> Effect:
    """With a terminal it takes orders."""
    return effect(READ) if has(words, "-b") else INTERPRETER


def _ip(words: tuple[str, ...]) -> Effect:
    rest = [word for word in words if not re.fullmatch(r"-(br|brief|c|s|4|6|j|o)", word)]
    reads = rest[:1] and rest[0] in ["a", "addr", "address", "l", "link", "r", "route", "n", "neigh", "rule"]
    asks = len(rest) == 1 or (len(rest) > 1 and rest[1] in ("show", "list", "ls", "s", "get"))
    return effect(READ) if reads and asks else effect(ADMIN, "network")


def _printf(arguments: Arguments) -> Effect:
    first = arguments[0] if arguments else ""
    return NOBODY_KNOWS if first is None or first.startswith("-") else effect(READ)


def _test(arguments: Arguments) -> Effect:
    """Some shells calculate with its operands, and to calculate can run commands: a[$(…)]."""
    asks = any(word in (None, "-v", "-R") or "$" in (word or "") or "`" in (word or "") for word in arguments)
    return NOBODY_KNOWS if asks else effect(READ)


def _counts(arguments: Arguments) -> Effect:
    """Builtins that take a number, which some shells calculate, or may set a variable (wait -p)."""
    plain = all(word is not None and re.fullmatch(r"%?[0-9]+", word) for word in arguments)
    return effect(READ) if plain else NOBODY_KNOWS


# --------------------------------------------------------- what runs others


def _sudo(arguments: Arguments) -> Effect:
    rest = list(arguments)
    while rest and rest[0] is not None and rest[0].startswith("-"):
        option = rest.pop(0)
        if option in ("-u", "-g") and rest:
            rest.pop(0)
        elif option not in ("-n", "-E", "-H", "-S", "-k", "-b", "--"):
            return effect(UNKNOWN, "privilege")
    if not rest:
        return effect(UNKNOWN, "privilege")
    return Effect(ADMIN, frozenset({"privilege"}), (tuple(rest),))


def _wrapper(valued: str, flags: str, operands: int, arguments: Arguments) -> Effect:
    """Options, then so many operands of its own, then a command. `valued` options take the next word."""
    rest = list(arguments)
    while rest and rest[0] is not None and rest[0].startswith("-") and rest[0] != "-":
        option = rest.pop(0)
        assert option is not None
        if option == "--":
            break
        if option in valued.split() and rest:
            rest.pop(0)
        elif option not in flags.split() and not re.fullmatch(
            r"-[0-9]+|-[a-z][0-9LN.]+|--[a-z-]+=[\w.]+", option
        ):
            return NOBODY_KNOWS
    rest = rest[operands:]
    return Effect(READ, runs=(tuple(rest),)) if rest else NOBODY_KNOWS


def _flock(arguments: Arguments) -> Effect:
    """It makes the file that it locks."""
    it = _wrapper("-w", "-n -x -s", 1, arguments)
    return replace(it, statement_class=WRITE) if it.runs else it


_HARMLESS = re.compile(
    r"(LANG|LC_[A-Z]+|TZ|TERM|DEBIAN_FRONTEND|NO_COLOR|COLUMNS|LINES|[a-z_][a-z0-9_]*)=.*", re.S
)
_STEERS = re.compile(
    r"(path|fpath|cdpath|manpath|module_path|fignore|mailpath|watch|psvar|prompt|argv|status|histchars"
    r"|\w*_proxy)="
)
"""Names in small letters that are not harmless: zsh ties some to PATH and its like, and programs connect by
others.
"""


def harmless_assignment(word: str) -> bool:
    """Whether `NAME=value` can change only what a command shows, never which command runs."""
    return bool(_HARMLESS.fullmatch(word)) and not _STEERS.match(word)


def _env(arguments: Arguments) -> Effect:
    rest = list(arguments)
    while rest and rest[0] is not None and "=" in rest[0] and not rest[0].startswith("-"):
        word = rest.pop(0)
        if word is None or not harmless_assignment(word):
            return NOBODY_KNOWS
    if not rest:
        return effect(READ)
    first = rest[0]
    if first is None or first.startswith("-"):
        return NOBODY_KNOWS
    return Effect(READ, runs=(tuple(rest),))


def _xargs(arguments: Arguments) -> Effect:
    rest = list(arguments)
    while rest and rest[0] is not None and rest[0].startswith("-"):
        option = rest.pop(0)
        if option in ("-n", "-P", "-L", "-d", "-I") and rest:
            if option == "-I" and (rest[0] or "{}") != "{}":
                return NOBODY_KNOWS
            rest.pop(0)
        elif not re.fullmatch(r"-[0rt]+|-[nPL][0-9]+|-I\{\}|--null|--no-run-if-empty", option or ""):
            return NOBODY_KNOWS
    if not rest:
        return effect(READ)
    command = [None if word is None or "{}" in word else word for word in rest]
    return Effect(READ, runs=((*command, None),))


def _shell(arguments: Arguments) -> Effect:
    """`sh -c LINE` runs that line; everything else runs what the gate does not see."""
    options = []
    rest = list(arguments)
    while rest and rest[0] is not None and re.fullmatch(r"-[ceux]+", rest[0]):
        options.append(rest.pop(0))
    if len(rest) == 1 and rest[0] is not None and any("c" in (it or "") for it in options):
        return Effect(READ, script=rest[0])
    return INTERPRETER


def _eval(arguments: Arguments) -> Effect:
    if any(word is None for word in arguments):
        return INTERPRETER
    return Effect(READ, script=" ".join(word for word in arguments if word is not None))


def _command(arguments: Arguments) -> Effect:
    if arguments[:1] in (("-v",), ("-V",)):
        return effect(READ)
    return _wrapper("", "-p", 0, arguments)


def _exec(arguments: Arguments) -> Effect:
    first = arguments[0] if arguments else None
    return NOBODY_KNOWS if first is None or first.startswith("-") else Effect(READ, runs=(arguments,))


def _checked(rules: dict[str, Callable[[tuple[str, ...]], Effect]]) -> dict[str, Rule]:
    return {name: partial(strict, rule) for name, rule in rules.items()}


_READ_UNLESS = {
    "nm": "--plugin",
    "lastlog": "-C -S --clear --set",
    "sort": "-o --output --compress-program -T",
    "file": "-C --compile",
    "tree": "-o -R --output",
    "dmesg": "-C -c -n -D -E --clear --read-clear --console-level --console-off --console-on",
    "ss": "-K --kill -D --diag",
}
RULES: dict[str, Rule] = {
    **TABLE,
    **_checked(
        {name: partial(unless, bad, effect(READ), NOBODY_KNOWS) for name, bad in _READ_UNLESS.items()}
    ),
    **_checked({
        "dd": _dd, "find": _find, "sed": _sed, "tar": _tar, "uniq": _uniq, "systemctl": systemctl,
        "service": service, "journalctl": journalctl, "git": git, "docker": container,
        "podman": container,
        "curl": curl, "wget": wget, "rsync": rsync, "scp": scp,
        "ip": _ip, "date": _date, "hostname": _hostname, "top": _top,
        "crontab": lambda words: effect(READ) if words == ("-l",) else effect(ADMIN, "login"),
        "split": partial(unless, "--filter", effect(WRITE), NOBODY_KNOWS),
        "install": _install,
        "zip": partial(unless, "-T -U --test --unzip-command -@", effect(WRITE), NOBODY_KNOWS),
        "cargo": cargo,
        "git-upload-pack": lambda words: effect(READ if len(operands(words)) == 1 else UNKNOWN),
        "git-receive-pack": lambda words: effect(WRITE if len(operands(words)) == 1 else UNKNOWN),
        "export": lambda words: effect(READ if all(map(harmless_assignment, words)) else UNKNOWN),
    }),
    **_checked(dict.fromkeys(
        ["apt", "apt-get", "apt-cache", "dnf", "yum", "zypper", "apk", "snap", "flatpak", "dpkg", "rpm",
         "brew", "gem"],
        packages,
    )),
    **dict.fromkeys(
        [f"mkfs{end}" for end in ("", ".ext2", ".ext3", ".ext4", ".xfs", ".btrfs", ".vfat", ".ntfs")],
        TABLE["wipefs"],
    ),
    "rm": _rm, "chmod": _permissions, "chown": _permissions, "chgrp": _permissions,
    "printf": _printf, "test": _test, "[": _test,
    **dict.fromkeys(("exit", "logout", "return", "break", "continue", "shift", "wait"), _counts),
    "sudo": _sudo, "env": _env, "xargs": _xargs, "eval": _eval, "command": _command, "exec": _exec,
    "builtin": _exec, "nohup": _exec,
    "nice": partial(_wrapper, "-n", "", 0), "ionice": partial(_wrapper, "-c -n", "-t", 0),
    "timeout": partial(_wrapper, "-k -s", "-v --foreground --preserve-status", 1),
    "stdbuf": partial(_wrapper, "-i -o -e", "", 0), "setsid": partial(_wrapper, "", "-f -w -c", 0),
    "time": partial(_wrapper, "", "-p -v", 0), "flock": _flock,
    "busybox": _exec,
    **dict.fromkeys(("sh", "bash", "dash", "ash", "ksh", "zsh", "rbash"), _shell),
}  # fmt: skip
"""The rule of each command by its name. One that is not here is unknown."""
