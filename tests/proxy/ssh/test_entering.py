"""Who comes in at the SSH door, by the real OpenSSH client, and what those hear who do not."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import asyncssh
import pytest

from broker.credentials.seal import Seal
from broker.credentials.ssh import SshAuthorities

if TYPE_CHECKING:
    from tests.proxy.ssh.conftest import OpenSshHouse, SshHouse


async def test_a_certificate_under_a_live_grant_enters_and_the_gate_proves_itself(web: SshHouse) -> None:
    done = await web.ssh("echo in")  # StrictHostKeyChecking=yes, with nothing but the gate's authority
    assert (done.code, done.out, done.err) == (0, "in\n", "")
    (knock,) = web.authority.knocks
    assert (knock.protocol, knock.principal, knock.resource, knock.role) == ("ssh", "ada", "web-1", "")


async def test_with_a_certificate_the_name_may_be_left_out(web: SshHouse) -> None:
    assert (await web.ssh("echo in", user="+web-1")).out == "in\n"


async def test_the_login_name_may_name_the_role(web: SshHouse) -> None:
    proof = web.certificate(names=("ada+web-1+deploy",))
    assert (await web.ssh("echo in", user="ada+web-1+deploy", proof=proof)).out == "in\n"


async def ask_pass(web: SshHouse, token: str, *, method: str = "password") -> tuple[int, str]:
    """Let the real client give a password, by a program that it asks."""
    script = web.folder / "askpass"
    script.write_text(f"#!/bin/sh\necho {token}\n")
    script.chmod(0o700)
    options = ["-o", f"PreferredAuthentications={method}", "-o", "NumberOfPasswordPrompts=1"]
    done = await web.run(
        "ssh", *web.options(), *options, "127.0.0.1", "echo in",
        SSH_ASKPASS=str(script), SSH_ASKPASS_REQUIRE="force", DISPLAY=":0",
    )  # fmt: skip
    return done.code, done.out + done.err


@pytest.mark.parametrize("method", ["password", "keyboard-interactive"])
async def test_a_token_enters_where_there_is_no_certificate(web: SshHouse, method: str) -> None:
    code, said = await ask_pass(web, "pce_ada-token-1", method=method)
    assert (code, said[:3]) == (0, "in\n")
    code, said = await ask_pass(web, "guess", method=method)
    assert code == 255
    assert "Permission denied" in said


async def test_three_wrong_passwords_end_the_connection_with_the_way_out(web: SshHouse) -> None:
    assert web.gate.ssh is not None
    with pytest.raises(asyncssh.DisconnectError) as caught:
        await asyncssh.connect(
            "127.0.0.1", web.gate.ssh.port, username="ada+web-1", client_keys=None, agent_path=None,
            config=None, known_hosts=str(web.known_hosts()), client_factory=_Guesser,
        )  # fmt: skip
    assert "The token is not valid" in str(caught.value)
    assert "access login" in str(caught.value)
    assert len(web.authority.knocks) == 3


class _Guesser(asyncssh.SSHClient):
    def password_auth_requested(self) -> str:
        return "guess"

    def kbdint_auth_requested(self) -> str | None:
        return None


async def test_without_a_grant_one_is_told_how_to_ask_and_asked_nothing_more(web: SshHouse) -> None:
    proof = web.certificate(grant="G-other")
    done = await web.ssh("echo in", proof=proof)
    assert done.code == 255
    assert "You have no live grant" in done.err
    assert "/access request web-1 1h" in done.err
    assert done.out == ""


@pytest.mark.parametrize(
    ("attack", "told"),
    [
        ({"minutes": -1}, "it is not valid now"),
        ({"names": ("ada+web-2",)}, ""),
        ({"names": ("grace+web-1",)}, ""),
        ({"source": "192.0.2.0/24"}, ""),
    ],
)
async def test_a_certificate_that_is_over_or_for_others_does_not_enter(
    web: SshHouse, attack: dict[str, object], told: str
) -> None:
    done = await web.ssh("echo in", proof=web.certificate(**attack))  # type: ignore[arg-type]
    assert done.code == 255
    assert "in\n" not in done.out


async def test_a_certificate_bound_to_an_address_enters_from_there(web: SshHouse) -> None:
    assert (await web.ssh("echo in", proof=web.certificate(source="127.0.0.0/8"))).out == "in\n"


async def test_a_certificate_of_another_authority_does_not_enter(web: SshHouse) -> None:
    forged = SshAuthorities(Seal([os.urandom(32)]))
    done = await web.ssh("echo in", proof=web.certificate(authorities=forged))
    assert done.code == 255
    assert "it is of another authority" in web.authority.problems


async def test_a_plain_key_does_not_enter(web: SshHouse) -> None:
    proof = [*web.certificate()[:2], "-o", "IdentitiesOnly=yes", "-o", "CertificateFile=none"]
    Path(f"{proof[1]}-cert.pub").unlink()
    done = await web.ssh("echo in", proof=proof)
    assert done.code == 255
    assert web.authority.knocks == []


async def test_what_lets_in_at_the_gate_lets_nobody_in_at_the_host(web: SshHouse) -> None:
    """The host trusts another authority: a person's own certificate is no way round."""
    host = web.host
    proof = web.certificate(names=(host.sshd.user, "ada+web-1"))
    done = await web.run(
        "ssh", "-F", "none", "-o", "BatchMode=yes", "-o", "StrictHostKeyChecking=no",
        "-o", "UserKnownHostsFile=/dev/null", "-p", str(host.sshd.port), *proof,
        f"{host.sshd.user}@127.0.0.1", "echo round",
    )  # fmt: skip
    assert done.code == 255
    assert "round\n" not in done.out


async def test_a_login_name_without_a_resource_is_told_what_to_write(web: SshHouse) -> None:
    done = await web.ssh("echo in", user="ada")
    assert done.code == 255
    assert "Permission denied" in done.err or "YOU+RESOURCE" in done.err
    assert web.authority.knocks == []


async def test_a_host_that_does_not_prove_itself_is_not_entered(web: SshHouse) -> None:
    stranger = asyncssh.generate_private_key("ssh-ed25519").export_public_key().decode().strip()
    web.authority.upstream = web.host.upstream(host_keys=(stranger,))
    web.grant = web.authority.host_grant()
    web.authority.grants = {web.grant: web.authority.grants[web.grant]}
    done = await web.ssh("echo in")
    assert done.code == 255
    assert "does not prove that it is itself" in done.err
    assert (await web.closed())[0].reason == "error"


@pytest.mark.parametrize("secret", ["key", "certificate"])
async def test_a_login_that_fails_shows_neither_address_nor_secret(web: SshHouse, secret: str) -> None:
    other = asyncssh.generate_private_key("ssh-ed25519").export_private_key().decode()
    upstream = web.host.upstream()
    wrong = (
        replace(upstream, key=other, certificate="") if secret == "key" else replace(upstream, certificate="")
    )
    web.authority.upstream = wrong
    web.grant = web.authority.host_grant()
    web.authority.grants = {web.grant: web.authority.grants[web.grant]}
    done = await web.ssh("echo in")
    assert done.code == 255
    assert "could not enter web-1" in done.err
    assert str(web.host.sshd.port) not in done.err
    assert "PRIVATE KEY" not in done.err


async def test_when_the_broker_is_away_nobody_enters(web: SshHouse) -> None:
    web.authority.away = True
    done = await web.ssh("echo in")
    assert done.code == 255
    assert "broker cannot be reached" in done.err


async def test_a_grant_admits_only_so_many_sessions(open_ssh: OpenSshHouse) -> None:
    web = await open_ssh()
    web.grant = web.authority.host_grant(max_sessions=1)
    async with await web.connect():
        done = await web.ssh("echo in")
        assert "sessions open" in done.err
    await web.closed(2)
    assert (await web.ssh("echo in")).out == "in\n"


async def test_more_greetings_than_the_gate_takes_at_once_are_dropped(open_ssh: OpenSshHouse) -> None:
    web = await open_ssh(max_greetings=0)
    web.grant = web.authority.host_grant()
    assert (await web.ssh("echo in")).code == 255
    assert web.authority.knocks == []


async def test_only_modern_algorithms_are_offered(web: SshHouse) -> None:
    for weak in (
        ("-c", "aes128-cbc"),
        ("-c", "chacha20-poly1305@openssh.com"),
        ("-m", "hmac-sha1", "-c", "aes256-ctr"),
        ("-o", "KexAlgorithms=diffie-hellman-group14-sha1"),
        ("-o", "KexAlgorithms=ecdh-sha2-nistp256"),
    ):
        done = await web.ssh("echo in", options=weak)
        assert done.code == 255, weak
        assert "no matching" in done.err, (weak, done.err)


async def test_the_key_exchange_is_strict(web: SshHouse) -> None:
    done = await web.ssh("true", options=("-vvv",))
    assert "kex-strict-s-v00@openssh.com" in done.err
    assert "will use strict KEX ordering" in done.err
