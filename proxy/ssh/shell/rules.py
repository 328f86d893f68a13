"""Commands whose options decide what they do, and commands that run others.

Where an option could be anything (a variable, a pattern that may begin with a dash), the command is unknown.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
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


def _strict(rule: Callable[[tuple[str, ...]], Effect], arguments: Arguments) -> Effect:
    """For rules that have to see every word."""
    known = tuple(word for word in arguments if word is not None)
    return rule(known) if len(known) == len(arguments) else NOBODY_KNOWS


def _has(words: Iterable[str], *options: str) -> bool:
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


def _unless(bad: str, good: Effect, otherwise: Effect, words: tuple[str, ...]) -> Effect:
    return otherwise if _has(words, *bad.split()) else good


def _operands(words: Iterable[str]) -> list[str]:
    return [word for word in words if not word.startswith("-")]


# ------------------------------------------------------------- files and texts


def _rm(arguments: Arguments) -> Effect:
    recursive = any(word is None for word in arguments) or _has(
        [word for word in arguments if word is not None], "-r", "-R", "--recursive"
    )
    return effect(DESTRUCTIVE, "recursive_delete") if recursive else effect(DESTRUCTIVE)


def _permissions(arguments: Arguments) -> Effect:
    words = [word for word in arguments if word is not None]
    if len(words) < len(arguments) or _has(words, "-R", "--recursive"):
        return effect(ADMIN, "recursive_permissions")
    sets_id = re.compile(r"[0-7]*[2-7][0-7]{3}|[ugoa]*[+=][rwxXt]*s[rwxXst]*")
    if any(sets_id.fullmatch(part) for word in words for part in word.split(",")):
        return effect(ADMIN, "privilege")
    return effect(WRITE)


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
    """Other long options may run commands, also shortened; so may the letters I and F."""
    options = [
        words[0] if words else "",
        *(word for word in words[1:] if word.startswith("-") and word != "-"),
    ]
    if not all(_TAR_LONG.fullmatch(it) or re.fullmatch(r"-?[tcxruvzjJfpkmCahO]+", it) for it in options):
        return NOBODY_KNOWS
    return effect(READ if options[0] == "--list" or "t" in options[0] else WRITE)


def _uniq(words: tuple[str, ...]) -> Effect:
    return effect(READ if len(_operands(words)) < 2 else WRITE)


def _date(words: tuple[str, ...]) -> Effect:
    sets = _has(words, "-s", "--set") or any(not word.startswith(("-", "+")) for word in words)
    return effect(ADMIN) if sets else effect(READ)


def _hostname(words: tuple[str, ...]) -> Effect:
    return effect(READ if all(re.fullmatch(r"-[aAdfiIsy]|--fqdn|--short", it) for it in words) else ADMIN)


def _top(words: tuple[str, ...]) -> Effect:
    """With a terminal it takes orders."""
    return effect(READ) if _has(words, "-b") else INTERPRETER


def _ip(words: tuple[str, ...]) -> Effect:
    rest = [word for word in words if not re.fullmatch(r"-(br|brief|c|s|4|6|j|o)", word)]
    reads = rest[:1] and rest[0] in ["a", "addr", "address", "l", "link", "r", "route", "n", "neigh", "rule"]
    asks = len(rest) == 1 or (len(rest) > 1 and rest[1] in ("show", "list", "ls", "s", "get"))
    return effect(READ) if reads and asks else effect(ADMIN, "network")


def _printf(arguments: Arguments) -> Effect:
    first = arguments[0] if arguments else ""
    return NOBODY_KNOWS if first is None or first.startswith("-") else effect(READ)


def _test(arguments: Arguments) -> Effect:
    return NOBODY_KNOWS if any(word in (None, "-v", "-R") for word in arguments) else effect(READ)


# ---------------------------------------------------------- services, packages

_UNIT_READS = frozenset(
    [
        "status",
        "show",
        "cat",
        "is-active",
        "is-enabled",
        "is-failed",
        "is-system-running",
        "list-units",
        "list-unit-files",
        "list-timers",
        "list-sockets",
        "list-jobs",
        "list-dependencies",
        "list-machines",
        "list-paths",
        "list-automounts",
        "get-default",
        "help",
    ]
)
_UNIT_POWER = frozenset(
    [
        "poweroff",
        "reboot",
        "halt",
        "kexec",
        "suspend",
        "hibernate",
        "hybrid-sleep",
        "rescue",
        "emergency",
        "exit",
    ]
)


def _systemctl(words: tuple[str, ...]) -> Effect:
    if _has(words, "-H", "-M", "--host", "--machine", "--root", "--image"):
        return NOBODY_KNOWS
    verb = next(iter(_operands(words)), "list-units")
    if verb in _UNIT_READS:
        return effect(READ)
    return effect(ADMIN, "power") if verb in _UNIT_POWER else effect(ADMIN, "service")


def _service(words: tuple[str, ...]) -> Effect:
    reads = words == ("--status-all",) or (len(words) == 2 and words[1] == "status")
    return effect(READ) if reads else effect(ADMIN, "service")


def _journalctl(words: tuple[str, ...]) -> Effect:
    writes = ("--vacuum-size", "--vacuum-time", "--vacuum-files", "--rotate", "--flush", "--sync")
    return _unless(
        " ".join((*writes, "--setup-keys", "--relinquish-var")), effect(READ), effect(ADMIN), words
    )


def _verbs(reads: str, otherwise: Effect, words: tuple[str, ...]) -> Effect:
    """Programs whose first word says what is done; an option before it could be anything."""
    return effect(READ) if words and words[0] in reads.split() else otherwise


_GIT_READS = "status log diff show branch remote describe rev-parse ls-files ls-tree blame shortlog --version"
_GIT_DESTROYS = ("clean", "reset", "gc", "prune", "filter-branch", "reflog", "update-ref", "branch", "tag")


def _git(words: tuple[str, ...]) -> Effect:
    verb = words[0] if words else ""
    if verb.startswith("-") and verb != "--version":
        return NOBODY_KNOWS
    if verb in ("branch", "remote"):
        return effect(READ) if len(words) == 1 or words[1] in ("-a", "-v", "-vv", "-r") else effect(WRITE)
    if _has(words, "--ext-diff", "--textconv", "--output", "--upload-pack", "--receive-pack", "--exec"):
        return NOBODY_KNOWS
    if verb in _GIT_READS.split():
        return effect(READ)
    if verb in _GIT_DESTROYS or (verb == "push" and _has(words, "-f", "--force", "--delete", "--mirror")):
        return effect(DESTRUCTIVE)
    known = (
        "add",
        "commit",
        "checkout",
        "switch",
        "fetch",
        "pull",
        "clone",
        "merge",
        "stash",
        "init",
        "push",
    )
    return effect(WRITE, "network") if verb in known else NOBODY_KNOWS


_CONTAINER_READS = "ps images logs inspect stats version info top port events history"


def _container(words: tuple[str, ...]) -> Effect:
    verb = words[0] if words else ""
    if verb in _CONTAINER_READS.split():
        return effect(READ)
    if verb in ("start", "stop", "restart", "pause", "unpause"):
        return effect(ADMIN, "service")
    if verb in ("rm", "rmi", "prune", "kill", "system", "volume"):
        return effect(DESTRUCTIVE)
    return effect(UNKNOWN, "privilege")


_CURL_READS = re.compile(r"-[sSfLIikvg46]+|--(silent|show-error|fail|location|head|include|insecure|verbose)")


def _curl(words: tuple[str, ...]) -> Effect:
    """Anything but fetching to standard output may send, write, or read its options from a file."""
    rest = [word for word in words if not _CURL_READS.fullmatch(word)]
    plain = rest and all(re.match(r"https?://", word) for word in rest)
    if plain:
        return effect(READ, "network")
    saves = [word for word in rest if word.startswith("-")]
    if saves and all(re.fullmatch(r"-O|--remote-name", word) for word in saves):
        return effect(WRITE, "network")
    return effect(UNKNOWN, "network")


def _wget(words: tuple[str, ...]) -> Effect:
    known = re.compile(r"-(q|nv|S|4|6|c|N|O-?)|--(quiet|spider|no-verbose|https-only)|https?://.*|-")
    return effect(WRITE if all(known.fullmatch(word) for word in words) else UNKNOWN, "network")


def _rsync(words: tuple[str, ...]) -> Effect:
    """Only the far end of a copy: what a person's own rsync starts here."""
    if words[:1] != ("--server",) or _has(words, "--rsync-path", "--daemon", "--config", "--log-file"):
        return effect(UNKNOWN, "network")
    if words[1:2] == ("--sender",):
        return effect(READ) if not _has(words, "--remove-source-files") else effect(DESTRUCTIVE)
    return effect(DESTRUCTIVE if _has(words, "--delete", "--delete-during", "--delete-before") else WRITE)


def _scp(words: tuple[str, ...]) -> Effect:
    """The far end of the older way of scp."""
    flags = [word for word in words if re.fullmatch(r"-[vrpdq]*[tf][vrpdq]*", word)]
    if len(flags) != 1 or any(not re.fullmatch(r"-[vrpdqtf]+|--", it) for it in words if it.startswith("-")):
        return effect(UNKNOWN, "network")
    return effect(WRITE if "t" in flags[0] else READ)


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


_HARMLESS = re.compile(
    r"(LANG|LC_[A-Z]+|TZ|TERM|DEBIAN_FRONTEND|NO_COLOR|COLUMNS|LINES|[a-z_][a-z0-9_]*)=.*", re.S
)
_ZSH_TIED = re.compile(
    r"(path|fpath|cdpath|manpath|module_path|fignore|mailpath|watch|psvar|prompt|argv|status)="
)


def harmless_assignment(word: str) -> bool:
    """Whether `NAME=value` can change only what a command shows, never which command runs."""
    return bool(_HARMLESS.fullmatch(word)) and not _ZSH_TIED.match(word)


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
    return {name: partial(_strict, rule) for name, rule in rules.items()}


_READ_UNLESS = {
    "sort": "-o --output --compress-program -T",
    "file": "-C --compile",
    "tree": "-o --output",
    "dmesg": "-C -c -n -D -E --clear --read-clear --console-level --console-off --console-on",
    "ss": "-K --kill -D --diag",
}
_PACKAGES = (
    "list show search policy info madison query check-update history -l -L -s -S -q -qa -qi -ql --list"
)

RULES: dict[str, Rule] = {
    **TABLE,
    **_checked(
        {name: partial(_unless, bad, effect(READ), NOBODY_KNOWS) for name, bad in _READ_UNLESS.items()}
    ),
    **_checked({
        "dd": _dd, "find": _find, "sed": _sed, "tar": _tar, "uniq": _uniq, "systemctl": _systemctl,
        "service": _service, "journalctl": _journalctl, "git": _git, "docker": _container,
        "podman": _container,
        "curl": _curl, "wget": _wget, "rsync": _rsync, "scp": _scp,
        "ip": _ip, "date": _date, "hostname": _hostname, "top": _top,
        "crontab": lambda words: effect(READ) if words == ("-l",) else effect(ADMIN, "login"),
        "split": partial(_unless, "--filter", effect(WRITE), NOBODY_KNOWS),
        "install": partial(_unless, "-s --strip-program --strip", effect(WRITE), NOBODY_KNOWS),
        "zip": partial(_unless, "-T -U --test --unzip-command -@", effect(WRITE), NOBODY_KNOWS),
        "git-upload-pack": lambda words: effect(READ if len(_operands(words)) == 1 else UNKNOWN),
        "git-receive-pack": lambda words: effect(WRITE if len(_operands(words)) == 1 else UNKNOWN),
        "export": lambda words: effect(READ if all(map(harmless_assignment, words)) else UNKNOWN),
    }),
    **_checked(dict.fromkeys(
        ["apt", "apt-get", "apt-cache", "dnf", "yum", "zypper", "apk", "snap", "flatpak", "dpkg", "rpm",
         "brew", "gem", "cargo"],
        partial(_verbs, _PACKAGES, effect(ADMIN, "package")),
    )),
    **dict.fromkeys(
        [f"mkfs{end}" for end in ("", ".ext2", ".ext3", ".ext4", ".xfs", ".btrfs", ".vfat", ".ntfs")],
        TABLE["wipefs"],
    ),
    "rm": _rm, "chmod": _permissions, "chown": _permissions, "chgrp": _permissions,
    "printf": _printf, "test": _test, "[": _test,
    "sudo": _sudo, "env": _env, "xargs": _xargs, "eval": _eval, "command": _command, "exec": _exec,
    "builtin": _exec, "nohup": _exec,
    "nice": partial(_wrapper, "-n", "", 0), "ionice": partial(_wrapper, "-c -n", "-t", 0),
    "timeout": partial(_wrapper, "-k -s", "-v --foreground --preserve-status", 1),
    "stdbuf": partial(_wrapper, "-i -o -e", "", 0), "setsid": partial(_wrapper, "", "-f -w -c", 0),
    "time": partial(_wrapper, "", "-p -v", 0), "flock": partial(_wrapper, "-w", "-n -x -s", 1),
    "busybox": _exec,
    **dict.fromkeys(("sh", "bash", "dash", "ash", "ksh", "zsh", "rbash"), _shell),
}  # fmt: skip
"""The rule of each command by its name. One that is not here is unknown."""
