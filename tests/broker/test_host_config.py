"""SSH hosts in access.yaml: what is wrong is said with its place and a mend; a good one has its meaning."""

from __future__ import annotations

from pathlib import Path

import pytest

from broker.config import ConfigError, SecretRef, SshTarget
from broker.policy_file.holder import load
from broker.policy_file.ssh_schema import TRAITS
from proxy.ssh.shell.rules import RULES
from workflows.model import FileRule

KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJH2bSVKZyJhHhTCmYRVTqvLGJbwaKNIVbJ9AkSPFD7S"
GOOD = f"""\
people:
  grace: {{name: Grace Hopper, groups: [dba]}}
groups:
  dba: {{title: Approvers}}
resources:
  web-1:
    kind: ssh
    address: web-1.example.com:22
    host_key: {KEY} of web-1
    roles:
      deploy:
        user: deploy
        shell: record
        files: write
        forward: ["127.0.0.1:5432", /run/shop.sock]
        guardrails:
          - {{name: ask, action: hold, classes: [admin], kinds: [privilege], approval: [{{group: dba}}]}}
      look: {{user: nobody}}
"""


def problems(folder: Path, text: str) -> list[str]:
    path = folder / "access.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError) as caught:
        load(path)
    return [str(problem).removeprefix(f"{path}:") for problem in caught.value.problems]


def test_a_good_host_has_its_meaning(tmp_path: Path) -> None:
    path = tmp_path / "access.yaml"
    path.write_text(GOOD)
    config = load(path)
    assert config.targets["web-1"] == SshTarget("web-1.example.com", 22, (KEY,), ())
    deploy = config.policy.resources["web-1"].role("deploy")
    assert deploy is not None
    assert deploy.terms.host is not None
    assert (deploy.terms.host.user, deploy.terms.host.shell) == ("deploy", "record")
    assert deploy.terms.host.files == (FileRule(("/**",), frozenset({"list", "read", "write", "delete"})),)
    assert [rail.name for rail in deploy.terms.guardrails] == ["ask", "own-login"]
    look = config.policy.resources["web-1"].role("look")
    assert look is not None
    assert look.terms.host is not None
    assert (look.terms.host.shell, look.terms.host.files, look.terms.host.forward) == ("refuse", (), ())
    assert look.terms.guardrails == ()


def test_a_sealed_key_is_named_by_its_place(tmp_path: Path) -> None:
    path = tmp_path / "access.yaml"
    path.write_text(GOOD.replace("    roles:", "    key: file:web-1.key\n    roles:"))
    target = load(path).targets["web-1"]
    assert isinstance(target, SshTarget)
    assert target.key == SecretRef("file:web-1.key", tmp_path)


@pytest.mark.parametrize(
    ("right", "wrong", "told"),
    [
        ("shell: record", "shel: record", "13:9: “shel” is not known here — did you mean “shell”?"),
        (
            "shell: record",
            "shell: free",
            "13:16: “free” does not fit here — one of: refuse, record or lines",
        ),
        (f"host_key: {KEY} of web-1", "host_key: nonsense", "9:15: this is no OpenSSH public key"),
        (f"    host_key: {KEY} of web-1\n", "", "nothing says how this host proves that it is itself"),
        ("files: write", "files: [{paths: [/a/../b]}]", "a path begins with / and has no .. in it"),
        ("kinds: [privilege]", "kinds: [priviledge!]", "did you mean “privilege”?"),
        ("forward: [", "forward: [anywhere, ", "a place is written host:port, host:* or"),
        ("user: deploy", "user: -oProxyCommand=x", "12:15"),
        ("    roles:", "    key: secret\n    roles:", "a key never stands in this file"),
        ("approval: [{group: dba}]", "approval: [{group: dbas}]", "did you mean “dba”?"),
        ("  look: {user: nobody}", "  look: {user: nobody, shell: lines}", "no guardrail says which lines"),
    ],
)
def test_a_mistake_is_told_with_its_place_and_its_mend(
    tmp_path: Path, right: str, wrong: str, told: str
) -> None:
    assert right in GOOD
    found = problems(tmp_path, GOOD.replace(right, wrong))
    assert any(told in problem for problem in found), found


def test_every_trait_that_the_policy_may_name_is_one_that_some_command_has() -> None:
    samples = [("-R", "4755", "x"), ("x",), ("--server",), ("restart", "x"), ("poweroff",), ("-r",), ()]
    found = {trait for rule in RULES.values() for words in samples for trait in rule(tuple(words)).traits}
    # The last is found over a whole line: what is fetched and what runs it.
    assert found | {"download_and_run"} >= set(TRAITS)
