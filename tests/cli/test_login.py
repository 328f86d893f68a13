"""The listener of `access login`: it takes the answer to its own login and nothing else."""

from __future__ import annotations

import stat
from collections.abc import Iterator
from pathlib import Path

import httpx2
import keyring
import pytest
from keyring.backend import KeyringBackend
from keyring.errors import KeyringLocked

from cli import saved
from cli.client import Api
from cli.login import _Listener, _with_browser
from cli.trouble import Exit, Trouble


def test_only_the_answer_with_the_right_state_is_taken() -> None:
    with _Listener("the-state") as listener:
        base = f"http://127.0.0.1:{listener.port}"
        for path in (
            "/callback?code=evil&state=another",
            "/callback?code=evil",
            "/callback?state=the-state",
            "/?code=evil&state=the-state",
            "/favicon.ico",
        ):
            assert "Not logged in" in httpx2.get(base + path).text, path
        with pytest.raises(Trouble, match="in time"):
            listener.wait(0.05)
        assert "Logged in" in httpx2.get(f"{base}/callback?code=good&state=the-state").text
        assert listener.wait(1) == "good"


def test_the_listener_is_on_this_machine_only() -> None:
    with _Listener("s") as listener:
        assert listener._server.server_address[0] == "127.0.0.1"


def test_a_kept_login_is_private_and_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PORTCULLIS_HOME", str(tmp_path / "new"))
    kept = saved.Login("http://127.0.0.1:1", "ada", "pcl_secret")
    place = saved.write(kept)
    assert stat.S_IMODE(place.stat().st_mode) == 0o600
    assert stat.S_IMODE(place.parent.stat().st_mode) == 0o700
    assert saved.read() == kept
    assert "pcl_secret" not in repr(kept)
    place.write_text("{broken")
    with pytest.raises(Trouble) as raised:
        saved.read()
    assert raised.value.exit_code is Exit.NOT_LOGGED_IN


def test_the_place_follows_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PORTCULLIS_HOME", raising=False)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    assert saved.home() == tmp_path / "portcullis"
    monkeypatch.setenv("PORTCULLIS_HOME", str(tmp_path / "mine"))
    assert saved.home() == tmp_path / "mine"


def test_a_broker_over_a_network_must_be_https() -> None:
    Api("https://broker.example.com")
    Api("http://127.0.0.1:8080")
    with pytest.raises(Trouble, match="not https"):
        Api("http://broker.example.com", "pcl_secret")


# ---------------------------------------------------------- the keyring


class InMemory(KeyringBackend):
    """A keyring as a desktop's, in this process."""

    priority = 5  # type: ignore[assignment]

    def __init__(self) -> None:
        super().__init__()
        self.kept: dict[tuple[str, str], str] = {}
        self.locked = False

    def get_password(self, service: str, username: str) -> str | None:
        if self.locked:
            raise KeyringLocked("locked")
        return self.kept.get((service, username))

    def set_password(self, service: str, username: str, password: str) -> None:
        if self.locked:
            raise KeyringLocked("locked")
        self.kept[service, username] = password

    def delete_password(self, service: str, username: str) -> None:
        del self.kept[service, username]


@pytest.fixture
def ring(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[InMemory]:
    monkeypatch.delenv("PORTCULLIS_KEYRING")
    monkeypatch.setenv("PORTCULLIS_HOME", str(tmp_path))
    before, ring = keyring.get_keyring(), InMemory()
    keyring.set_keyring(ring)
    yield ring
    keyring.set_keyring(before)


KEPT = saved.Login("http://127.0.0.1:1", "ada", "pcl_secret")


def test_with_a_keyring_the_token_is_in_no_file(ring: InMemory) -> None:
    place = saved.write(KEPT)
    assert "pcl_secret" not in place.read_text()
    assert list(ring.kept.values()) == ["pcl_secret"]
    assert saved.in_keyring()
    assert saved.read() == KEPT
    saved.forget()
    assert ring.kept == {}
    assert not place.exists()


def test_a_locked_keyring_is_told_and_kept_out_of(ring: InMemory) -> None:
    saved.write(KEPT)
    ring.locked = True
    with pytest.raises(Trouble, match="keyring does not give") as raised:
        saved.read()
    assert raised.value.exit_code is Exit.NOT_LOGGED_IN
    place = saved.write(KEPT)
    assert "pcl_secret" in place.read_text(), "it is kept in the file where the keyring does not take it"
    assert stat.S_IMODE(place.stat().st_mode) == 0o600


def test_a_keyring_that_protects_nothing_is_not_used(ring: InMemory) -> None:
    ring.priority = 0.5  # type: ignore[assignment]
    assert "pcl_secret" in saved.write(KEPT).read_text()
    assert ring.kept == {}


def test_it_can_be_switched_off(ring: InMemory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PORTCULLIS_KEYRING", "off")
    assert "pcl_secret" in saved.write(KEPT).read_text()
    assert ring.kept == {}


def test_a_home_that_cannot_be_written_is_told_before_anybody_logs_in(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("PORTCULLIS_HOME", str(tmp_path / "file" / "home"))
    with pytest.raises(Trouble, match="Nothing can be kept") as raised:
        saved.prepare()
    assert "PORTCULLIS_HOME" in raised.value.way_out
    with pytest.raises(Trouble, match="cannot be read"):
        saved.read()


def test_a_broker_that_is_away_is_told_before_a_browser_opens(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("webbrowser.open", lambda _: pytest.fail("it opened"))
    with pytest.raises(Trouble, match="does not answer") as raised:
        _with_browser(Api("http://127.0.0.1:9"))
    assert raised.value.exit_code is Exit.UNREACHABLE
