"""Secrets at rest open with their key, for their grant, unchanged, or not at all."""

from __future__ import annotations

import base64
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker.credentials.seal import Seal, SealError, from_settings

KEY, OTHER = b"k" * 32, b"o" * 32


@given(st.text(max_size=200), st.text(max_size=40))
def test_what_is_sealed_opens_for_its_grant(secret: str, grant: str) -> None:
    seal = Seal([KEY])
    sealed = seal.close(secret, grant)
    assert seal.open(sealed, grant) == secret
    assert len(secret) < 8 or secret not in sealed
    assert seal.close(secret, grant) != sealed


def test_it_does_not_open_for_another_grant_or_with_another_key() -> None:
    sealed = Seal([KEY]).close("secret", "G-1")
    with pytest.raises(SealError, match="changed or belongs elsewhere"):
        Seal([KEY]).open(sealed, "G-2")
    with pytest.raises(SealError, match="does not have"):
        Seal([OTHER]).open(sealed, "G-1")


@given(st.integers(min_value=0), st.integers(1, 255))
def test_no_changed_byte_goes_unseen(at: int, flip: int) -> None:
    seal = Seal([KEY])
    head, _, text = seal.close("a secret", "G-1").rpartition(".")
    blob = bytearray(base64.b64decode(text))
    blob[at % len(blob)] ^= flip
    with pytest.raises(SealError):
        seal.open(f"{head}.{base64.b64encode(blob).decode()}", "G-1")


@given(st.text(max_size=80))
def test_text_that_was_never_sealed_is_refused(text: str) -> None:
    with pytest.raises(SealError):
        Seal([KEY]).open(text, "G-1")


def test_after_a_change_of_keys_the_old_one_opens_and_the_new_one_seals() -> None:
    sealed = Seal([OTHER]).close("secret", "G-1")
    both = Seal([KEY, OTHER])
    assert both.open(sealed, "G-1") == "secret"
    assert Seal([KEY]).open(both.close("new", "G-1"), "G-1") == "new"


def test_a_key_file_is_made_once_by_however_many_start_at_once(tmp_path: Path) -> None:
    with ThreadPoolExecutor(16) as pool:
        made = list(pool.map(lambda _: from_settings("", tmp_path).current, range(32)))
    assert len(set(made)) == 1
    assert [file.name for file in tmp_path.iterdir()] == ["seal.key"]


def test_a_key_that_others_can_read_is_refused(tmp_path: Path) -> None:
    from_settings("", tmp_path)
    (tmp_path / "seal.key").chmod(0o640)
    with pytest.raises(PermissionError, match="can be read by others"):
        from_settings("", tmp_path)


@pytest.mark.parametrize("text", ["short", "!!", base64.b64encode(bytes(range(16))).decode()])
def test_a_malformed_key_is_said_without_showing_it(text: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="32 bytes in base 64") as caught:
        from_settings(text, tmp_path)
    assert text not in str(caught.value)


def test_nothing_printed_shows_a_key() -> None:
    assert base64.b64encode(KEY).decode() not in repr(Seal([KEY]))


def test_a_derived_key_outlives_a_new_seal_key_and_differs_by_purpose() -> None:
    old, new = bytes(range(32)), bytes(range(32, 64))
    assert Seal([new, old]).derive("mask prod-db") == Seal([old]).derive("mask prod-db")
    assert Seal([old]).derive("mask prod-db") != Seal([old]).derive("mask other-db")
    assert Seal([old]).derive("mask prod-db") != old
