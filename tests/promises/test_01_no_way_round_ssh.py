"""Promise 1. No way round, over SSH: no certificate, name, key, socket or tunnel but a live grant's own."""

# ruff: noqa: F401, F811  (fixtures are imported by name)

from __future__ import annotations

import asyncio
import os
from datetime import UTC, datetime, timedelta
from pathlib import Path

import asyncssh
import pytest

from broker.credentials.seal import Seal
from broker.credentials.ssh import Claim, SshAuthorities
from tests.proxy.conftest import gate_identity
from tests.proxy.ssh.conftest import OpenSshHouse, SshHouse, open_ssh, ssh_host, web
from workflows.model import EndReason, HostTerms


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


async def test_the_certificate_that_enters_hosts_does_not_enter_the_gate(web: SshHouse) -> None:
    """The gate's own, made for a session, stolen in its two minutes."""
    upstream = web.host.upstream()
    place = web.folder / "stolen"
    place.write_text(upstream.key)
    place.chmod(0o600)
    place.with_name("stolen-cert.pub").write_text(upstream.certificate + "\n")
    done = await web.ssh("echo in", proof=["-i", str(place), "-o", "IdentitiesOnly=yes"])
    assert (done.code, done.out) == (255, "")


async def test_a_certificate_without_its_key_does_not_enter(web: SshHouse) -> None:
    proof = web.certificate()
    other = asyncssh.generate_private_key("ssh-ed25519")
    other.write_private_key(web.folder / "other")
    (web.folder / "other").chmod(0o600)
    done = await web.ssh(
        "echo in", proof=["-i", str(web.folder / "other"), *proof[2:4], "-o", "IdentitiesOnly=yes"]
    )
    assert (done.code, done.out) == (255, "")
    assert web.authority.knocks == []


async def test_after_the_end_the_same_certificate_and_the_same_token_do_not_enter(web: SshHouse) -> None:
    proof = web.certificate()
    assert (await web.ssh("echo in", proof=proof)).out == "in\n"
    web.authority.end(web.grant, EndReason.REVOKED)
    done = await web.ssh("echo in", proof=proof)
    assert (done.code, done.out) == (255, "")
    with pytest.raises((asyncssh.Error, OSError)):
        await web.connect()


@pytest.mark.parametrize(
    "user", ["grace+web-1", "ada+web-2", "ada+web-1+root", "ada+web-1+deploy+x", "root", "+", "++"]
)
async def test_another_login_name_with_a_good_certificate_does_not_enter(web: SshHouse, user: str) -> None:
    done = await web.ssh("echo in", user=user)
    assert (done.code, done.out) == (255, "")


@pytest.mark.parametrize(
    "place", ["127.1", "localhost", "0x7f000001", "::ffff:127.0.0.1", "127.0.0.1.", "[127.0.0.1]"]
)
async def test_a_granted_place_by_another_spelling_is_another_place(
    open_ssh: OpenSshHouse, place: str
) -> None:
    """A rule names 127.0.0.1 and one port of it: nothing else that may come out there."""
    web = await open_ssh()
    web.grant = web.authority.host_grant(forward=("127.0.0.1:1",))
    async with await web.connect() as client:
        for port in (1, web.host.sshd.port):
            with pytest.raises(asyncssh.ChannelOpenError) as caught:
                await client.open_connection(place, port)
            assert caught.value.code == asyncssh.OPEN_ADMINISTRATIVELY_PROHIBITED


async def test_a_socket_beside_a_granted_one_is_not_reached(open_ssh: OpenSshHouse, tmp_path: Path) -> None:
    """A socket is a door of its own: a container engine's, an agent's, a database's that trusts its user."""

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        reached.append(True)
        writer.close()

    reached: list[bool] = []
    place = tmp_path / "docker.sock"
    server = await asyncio.start_unix_server(talk, place)
    web = await open_ssh()
    web.grant = web.authority.host_grant(forward=(f"{tmp_path}/shop.sock",))
    done = await web.ssh(
        "true", options=("-L", f"{tmp_path}/local:{place}", "-o", "ExitOnForwardFailure=yes")
    )
    assert done.code == 0  # ssh listens at home; what matters is what comes through
    async with await web.connect() as client:
        for path in (place, f"{tmp_path}/shop.sock/../docker.sock", f"{tmp_path}//docker.sock"):
            with pytest.raises(asyncssh.ChannelOpenError):
                await client.open_unix_connection(str(path))
    assert reached == []
    server.close()


async def test_a_tunnel_to_the_hosts_own_sshd_opens_nothing_there(open_ssh: OpenSshHouse) -> None:
    """Where a role may reach the host's sshd, its person still has nothing that sshd takes."""
    web = await open_ssh()
    sshd = web.host.sshd
    web.grant = web.authority.host_grant(forward=(f"127.0.0.1:{sshd.port}",))
    proof = web.certificate(names=(sshd.user, "ada+web-1"))
    through = " ".join([*web.command(), "-W", f"127.0.0.1:{sshd.port}", "127.0.0.1"])
    done = await web.run(
        "ssh", "-F", "none", "-o", "BatchMode=yes", "-o", "StrictHostKeyChecking=no", "-o",
        "UserKnownHostsFile=/dev/null", "-o", f"ProxyCommand={through}", *proof,
        f"{sshd.user}@target", "echo round",
    )  # fmt: skip
    assert (done.code, done.out) == (255, "")
    assert "Permission denied" in done.err


async def test_a_login_at_the_host_is_over_two_minutes_later_and_never_outlasts_the_grant(
    web: SshHouse,
) -> None:
    """What a thief of the gate's memory would have."""
    now = datetime.now(UTC)
    terms = HostTerms(web.host.sshd.user)
    for left, longest in ((timedelta(hours=1), 120), (timedelta(seconds=30), 30)):
        _, line = web.host.authorities.login(terms, Claim("ada", "G-1"), "S-1", now, now + left)
        certificate = asyncssh.import_certificate(line)
        assert certificate._valid_before - now.timestamp() <= longest + 1  # type: ignore[attr-defined]
