"""The listener of `access login`: it takes the answer to its own login and nothing else."""

from __future__ import annotations

import stat
from pathlib import Path

import httpx2
import pytest

from cli import saved
from cli.client import Api
from cli.login import _Listener
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
    monkeypatch.setenv("ACCESS_HOME", str(tmp_path / "new"))
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
    for name in ("PORTCULLIS_HOME", "ACCESS_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    assert saved.home() == tmp_path / "portcullis"
    monkeypatch.setenv("PORTCULLIS_HOME", str(tmp_path / "mine"))
    assert saved.home() == tmp_path / "mine"


def test_a_broker_over_a_network_must_be_https() -> None:
    Api("https://broker.example.com")
    Api("http://127.0.0.1:8080")
    with pytest.raises(Trouble, match="not https"):
        Api("http://broker.example.com", "pcl_secret")
