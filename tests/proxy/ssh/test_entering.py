"""Who comes in at the SSH door, by the real OpenSSH client, and what those hear who do not."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING

import asyncssh
import pytest

from tests.proxy.ssh.conftest import TOKEN

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


class _Browsing(asyncssh.SSHClient):
    """A client of keyboard-interactive whose person has a browser at hand: presses Enter, and confirms."""

    def __init__(self, confirms: Callable[[str], object]) -> None:
        self._confirms = confirms
        self.asked: list[str] = []

    def kbdint_auth_requested(self) -> str:
        return ""

    def kbdint_challenge_received(
        self, name: str, instructions: str, lang: str, prompts: list[tuple[str, bool]]
    ) -> list[str]:
        self.asked.append(instructions)
        self._confirms(instructions)
        return [""]


@pytest.mark.parametrize("person", ["ada", "grace"])
async def test_who_confirms_the_shown_code_in_a_browser_enters_as_nobody_else(
    web: SshHouse, person: str
) -> None:
    assert web.gate.ssh is not None
    web.authority.browsers = True

    def confirm(said: str) -> None:
        code = re.search(r"the code (\S+)\.", said)
        assert code is not None
        web.authority.confirm(code[1], person)

    client = _Browsing(confirm)
    entering = asyncssh.connect(
        "127.0.0.1", web.gate.ssh.port, username="ada+web-1", client_keys=None, agent_path=None, config=None,
        known_hosts=str(web.known_hosts()), client_factory=lambda: client,
        preferred_auth="keyboard-interactive",
    )  # fmt: skip
    if person == "ada":
        async with await entering as connection:
            assert (await connection.run("echo in")).stdout == "in\n"
        assert len(client.asked) == 1
    else:
        with pytest.raises(asyncssh.Error):
            await entering
    assert "Log in at https://access.example/device?code=" in client.asked[0]


async def test_the_real_client_shows_the_link_and_what_else_there_is(web: SshHouse) -> None:
    web.authority.browsers = True
    code, said = await ask_pass(web, TOKEN, method="keyboard-interactive")
    assert code == 0, said
    assert "in\n" in said


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


async def test_a_certificate_bound_to_an_address_enters_from_there(web: SshHouse) -> None:
    assert (await web.ssh("echo in", proof=web.certificate(source="127.0.0.0/8"))).out == "in\n"


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
