"""Programs whose first words say what they do: services, packages, git, containers, and what fetches."""

from __future__ import annotations

import re

from proxy.ssh.shell.commands import ADMIN, DESTRUCTIVE, NOBODY_KNOWS, READ, UNKNOWN, WRITE, Effect, effect
from proxy.ssh.shell.options import has, unless

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


_UNIT_FLAGS = re.compile(
    r"-[alqri]+|--(all|full|failed|no-pager|no-legend|quiet|now|plain|recursive|user|system|no-block|wait)"
    r"|--(type|state|property|output|lines|value)(=[\w.,@:-]*)?|-[nopPt][\w.,@:-]+"
)
_UNIT_VALUED = ("-t", "-p", "-P", "-n", "-o", "--type", "--state", "--property", "--output", "--lines")


def systemctl(words: tuple[str, ...]) -> Effect:
    """What it does is its first word that is no option's value: in -o cat poweroff it is poweroff."""
    rest = list(words)
    while rest and rest[0].startswith("-"):
        option = rest.pop(0)
        if option in _UNIT_VALUED and rest:
            rest.pop(0)
        elif not _UNIT_FLAGS.fullmatch(option):
            return NOBODY_KNOWS
    if has(rest, "-H", "-M", "--host", "--machine", "--root", "--image"):
        return NOBODY_KNOWS
    verb = rest[0] if rest else "list-units"
    if verb in _UNIT_READS:
        return effect(READ)
    return effect(ADMIN, "power") if verb in _UNIT_POWER else effect(ADMIN, "service")


def service(words: tuple[str, ...]) -> Effect:
    reads = words == ("--status-all",) or (
        len(words) == 2 and words[1] == "status" and re.fullmatch(r"[\w@][\w.@-]*", words[0]) is not None
    )
    return effect(READ) if reads else effect(ADMIN, "service")


def journalctl(words: tuple[str, ...]) -> Effect:
    writes = """
        --vacuum-size --vacuum-time --vacuum-files --rotate --flush --sync --setup-keys --relinquish-var
        --smart-relinquish-var --cursor-file --update-catalog
    """
    return unless(writes, effect(READ), effect(ADMIN), words)


_PACKAGES = "list show search policy info madison query check-update -l -L -s -S -q -qa -qi -ql --list"
_PACKAGES_RUN = "-o -c -E -D --option --config-file --eval --define --pipe --load --macros --rcfile"


def packages(words: tuple[str, ...]) -> Effect:
    """The first word says what is done; an option before it could be anything, and some run commands."""
    if has(words, *_PACKAGES_RUN.split()):
        return NOBODY_KNOWS
    reads = words[:1] and words[0] in _PACKAGES.split()
    history = words[:1] == ("history",) and words[1:2] in ((), ("list",), ("info",))
    return effect(READ) if reads or history else effect(ADMIN, "package")


def cargo(words: tuple[str, ...]) -> Effect:
    """Other words may be aliases of the folder it is in."""
    return effect(READ) if words in (("--list",), ("--version",)) else effect(UNKNOWN, "package")


_GIT_READS = "status log diff show describe rev-parse ls-files ls-tree blame shortlog --version"
_GIT_DESTROYS = ("clean", "reset", "gc", "prune", "filter-branch", "reflog", "update-ref", "tag")
_GIT_RUNS = "--ext-diff --textconv --output --upload-pack --receive-pack --exec --open-files-in-pager"

_BRANCH_LOSES = "-d -D -m -M -C -f --delete --move --force"


def _pushes_away(words: tuple[str, ...]) -> bool:
    """Whether a push may remove or replace something: also by +branch and by :branch."""
    forced = has(words, "-f", "-d", "--force", "--delete", "--mirror", "--prune", "--force-with-lease")
    return forced or any(word.startswith(("+", ":")) for word in words)


def git(words: tuple[str, ...]) -> Effect:
    while words[:1] == ("--no-pager",) or (words[:1] == ("-C",) and len(words) > 2):
        words = words[1:] if words[0] == "--no-pager" else words[2:]
    verb = words[0] if words else ""
    if verb.startswith("-") and verb != "--version":
        return NOBODY_KNOWS
    if has(words, *_GIT_RUNS.split()):
        return NOBODY_KNOWS
    if verb in ("branch", "remote"):
        shows = all(re.fullmatch(r"-[arv]+|--all|--remotes|--list|--verbose", word) for word in words[1:])
        loses = verb == "branch" and has(words, *_BRANCH_LOSES.split())
        return effect(READ if shows else DESTRUCTIVE if loses else WRITE)
    if verb in _GIT_READS.split():
        return effect(READ)
    if verb in ("clone", "init", "fetch", "pull") and has(words, "-u", "-c", "--config", "--template"):
        return NOBODY_KNOWS
    if verb in _GIT_DESTROYS or (verb == "push" and _pushes_away(words)):
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


def container(words: tuple[str, ...]) -> Effect:
    verb = words[0] if words else ""
    if verb in _CONTAINER_READS.split():
        return effect(READ)
    if verb in ("start", "stop", "restart", "pause", "unpause"):
        return effect(ADMIN, "service")
    if verb in ("rm", "rmi", "prune", "kill", "system", "volume"):
        return effect(DESTRUCTIVE)
    return effect(UNKNOWN, "privilege")


_CURL_READS = re.compile(r"-[sSfLIikvg46]+|--(silent|show-error|fail|location|head|include|insecure|verbose)")


def curl(words: tuple[str, ...]) -> Effect:
    """Anything but fetching to standard output may send, write, or read its options from a file."""
    rest = [word for word in words if not _CURL_READS.fullmatch(word)]
    plain = rest and all(re.match(r"https?://", word) for word in rest)
    if plain:
        return effect(READ, "network")
    saves = [word for word in rest if word.startswith("-")]
    if saves and all(re.fullmatch(r"-O|--remote-name", word) for word in saves):
        return effect(WRITE, "network")
    return effect(UNKNOWN, "network")


def wget(words: tuple[str, ...]) -> Effect:
    known = re.compile(r"-(q|nv|S|4|6|c|N|O-?)|--(quiet|spider|no-verbose|https-only)|https?://.*|-")
    return effect(WRITE if all(known.fullmatch(word) for word in words) else UNKNOWN, "network")


def rsync(words: tuple[str, ...]) -> Effect:
    """Only the far end of a copy: what a person's own rsync starts here."""
    if words[:1] != ("--server",) or has(words, "--rsync-path", "--daemon", "--config", "--log-file"):
        return effect(UNKNOWN, "network")
    if words[1:2] == ("--sender",):
        return effect(READ) if not has(words, "--remove-source-files") else effect(DESTRUCTIVE)
    return effect(DESTRUCTIVE if any(word.startswith(("--del", "--remove")) for word in words) else WRITE)


def scp(words: tuple[str, ...]) -> Effect:
    """The far end of the older way of scp."""
    flags = [word for word in words if re.fullmatch(r"-[vrpdq]*[tf][vrpdq]*", word)]
    if len(flags) != 1 or any(not re.fullmatch(r"-[vrpdqtf]+|--", it) for it in words if it.startswith("-")):
        return effect(UNKNOWN, "network")
    return effect(WRITE if "t" in flags[0] else READ)
