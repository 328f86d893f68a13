"""What each command can do: read, write, destroy, administer, or nobody knows.

A command that is not listed is unknown, and so is one whose options could be anything. The tables are of GNU
and util-linux programs as of Debian 12; where an option makes a reader write or run something, the command
has a rule of its own in rules.py.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from workflows.model import StatementClass

Arguments = tuple[str | None, ...]
"""The words after the name; None for one that is only known when it runs."""

READ, WRITE = StatementClass.READ, StatementClass.WRITE
DESTRUCTIVE, ADMIN, UNKNOWN = StatementClass.DESTRUCTIVE, StatementClass.ADMIN, StatementClass.UNKNOWN


@dataclass(frozen=True, slots=True)
class Effect:
    """What one command can do. `runs` are further commands that it runs, `script` a line that it runs."""

    statement_class: StatementClass
    traits: frozenset[str] = frozenset()
    runs: tuple[Arguments, ...] = ()
    script: str | None = None


Rule = Callable[[Arguments], Effect]


def effect(of_class: StatementClass, *traits: str) -> Effect:
    return Effect(of_class, frozenset(traits))


NOBODY_KNOWS = effect(UNKNOWN)
INTERPRETER = effect(UNKNOWN, "interpreter")

_READERS = """
: [ arch dig b2sum base32 base64 basename bzcat cal cat cksum cmp column comm cut df diff dir dirname du
echo egrep expr factor false fgrep fold free getconf getent grep groups head hexdump host hostid id
iostat jq join last lastlog locale logname ls lsblk lscpu lsmod lsof lspci lsusb md5sum mpstat
netstat nl nm nproc nslookup numfmt objdump od paste pgrep pidof ping printenv ps pstree pwd readelf
readlink realpath rev seq sha1sum sha224sum sha256sum sha384sum sha512sum sleep stat strings sum tac
tail test tr traceroute true tty type uname uptime users vmstat w wc whereis which who whoami xzcat
zcat zgrep cd
"""
_WRITERS = (
    "cp gunzip gzip bunzip2 bzip2 ln logger mkdir mkfifo mktemp mv rmdir tee touch unxz unzip unzstd xz zstd"
)
_INTERPRETERS = """
ash awk bash csh dash dc ed emacs ex expect fish gawk gdb java ksh less lua m4 make man mawk more
most mysql nano nawk node nodejs nvim perl php psql python python2 python3 rake rbash redis-cli ruby
screen script sh sqlite3 tclsh tmux vi view vim vimdiff watch zsh parallel ansible ansible-playbook
puppet chef-client irb pip pip3 npm npx
"""
_REMOTE = "nc ncat netcat socat telnet ssh sftp ftp tftp lftp rclone kubectl helm aws gcloud az"
_DISKS = """
blkdiscard cfdisk cryptsetup fdisk hdparm lvremove mkswap parted partprobe pvremove sfdisk sgdisk
vgremove wipefs mke2fs zpool zfs mdadm
"""
_POWER = "halt init poweroff reboot shutdown telinit kexec"
_PRIVILEGE = "su doas pkexec runuser newgrp sg setpriv capsh nsenter unshare chroot setcap visudo"
_LOGINS = """
adduser addgroup chage chfn chpasswd chsh deluser gpasswd groupadd groupdel groupmod passwd
ssh-copy-id ssh-import-id useradd userdel usermod vipw
"""
_ADMINS = """
arptables chattr depmod ebtables ethtool firewall-cmd ifconfig ifdown ifup insmod ip6tables iptables
iptables-restore kmod ldconfig loginctl modprobe mount nft quotaon renice rmmod route setenforce
setfacl swapoff swapon sysctl tc timedatectl tune2fs ufw umount update-alternatives update-grub
resize2fs e2fsck fsck losetup
"""


def _listed(names: str, it: Effect) -> dict[str, Rule]:
    return {name: partial(_always, it) for name in names.split()}


def _always(it: Effect, arguments: Arguments) -> Effect:
    return it


TABLE: dict[str, Rule] = {
    **_listed(_READERS, effect(READ)),
    **_listed(_WRITERS, effect(WRITE)),
    **_listed(_INTERPRETERS, INTERPRETER),
    **_listed(_REMOTE, effect(UNKNOWN, "network")),
    **_listed(_DISKS, effect(DESTRUCTIVE, "raw_device")),
    **_listed(_POWER, effect(ADMIN, "power")),
    **_listed(_PRIVILEGE, effect(UNKNOWN, "privilege")),
    **_listed(_LOGINS, effect(ADMIN, "login")),
    **_listed(_ADMINS, effect(ADMIN)),
    **_listed("kill killall pkill skill", effect(DESTRUCTIVE, "service")),
    **_listed("shred truncate unlink dropdb", effect(DESTRUCTIVE)),
    **_listed("at batch crontab systemd-run eval source . trap exec", INTERPRETER),
}
"""The rule of each command by its name; rules.py adds those that look at options."""

_DEVICE = re.compile(r"/+dev/+(sd|hd|vd|xvd|nvme|mmcblk|loop|dm-|md|mapper/|disk/|block/|mem$|kmem$|port$)")
_LOGIN_FILE = re.compile(
    r"(^|/)\.ssh(/|$)|authorized_keys|/etc/+(ssh|pam\.d|sudoers|cron)|/etc/+(passwd|shadow|group|gshadow)\b"
)
_BIN = re.compile(r"/(?:usr/(?:local/)?)?s?bin/([A-Za-z0-9\[][A-Za-z0-9._+\[-]*)")
_PLAIN = re.compile(r"[A-Za-z0-9_\[:.][A-Za-z0-9._+\[-]*")


def known_name(word: str | None) -> str | None:
    """The command behind a word, where it is one of the system's own folders or has none."""
    if word is None:
        return None
    if found := _BIN.fullmatch(word):
        return found[1]
    return word if _PLAIN.fullmatch(word) else None


def is_device(path: str) -> bool:
    return _DEVICE.match(posixpath.normpath(path)) is not None


def is_kernel(path: str) -> bool:
    """Whether a path is a switch of the kernel's, below /proc or /sys."""
    return posixpath.normpath("/" + path.lstrip("/")).startswith(("/proc/", "/sys/")) and path.startswith("/")


def marks(name: str, arguments: Arguments, it: Effect) -> frozenset[str]:
    """What a command's operands make of it, whatever it is, once it can change something."""
    if it.statement_class is READ:
        return frozenset()
    found = set()
    given = [value for value in arguments if value is not None]
    if any(is_device(value.rpartition("=")[2]) for value in given):
        found.add("raw_device")
    if any(_LOGIN_FILE.search(value) for value in given):
        found.add("login")
    if any("sysrq-trigger" in value for value in given):
        found.add("power")
    return frozenset(found)
