"""The codec: what is written is read back, and whatever comes in, it raises WireError or nothing."""

from __future__ import annotations

import contextlib
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.postgres import codec
from proxy.postgres.codec import Bind, Column, WireError

text = st.text(st.characters(blacklist_characters="\0", blacklist_categories=["Cs"]), max_size=30)
name = st.binary(max_size=20).map(lambda b: b.replace(b"\0", b""))
uint = st.integers(0, 2**32 - 1)
value = st.none() | st.binary(max_size=40)


def body(message: bytes) -> bytes:
    ((_, it),) = codec.split(message)
    return it


@given(st.lists(st.tuples(st.sampled_from([b"Q", b"D", b"Z"]), st.binary(max_size=50))))
def test_messages_are_split_where_they_were_joined(messages: list[tuple[bytes, bytes]]) -> None:
    joined = b"".join(codec.message(kind, it) for kind, it in messages)
    assert [(bytes([kind]), it) for kind, it in codec.split(joined)] == messages


@given(st.dictionaries(text.filter(bool), text, max_size=5), st.sampled_from([196608, 196610]))
def test_startup_goes_round(parameters: dict[str, str], version: int) -> None:
    assert codec.read_startup(codec.startup(parameters, version)[4:]) == codec.Startup(version, parameters)


@given(uint, st.binary(min_size=4, max_size=256))
def test_cancel_goes_round(pid: int, secret: bytes) -> None:
    assert codec.read_cancel(codec.cancel_request(pid, secret)[4:]) == codec.Cancel(pid, secret)


@given(st.dictionaries(st.sampled_from([b"S", b"C", b"M", b"D"]), name))
def test_error_fields_go_round(fields: dict[bytes, bytes]) -> None:
    assert codec.read_report(body(codec.report(b"E", fields))) == fields


@given(
    st.lists(
        st.builds(
            Column,
            name,
            uint,
            st.integers(-(2**15), 2**15 - 1),
            uint,
            st.integers(-(2**15), 2**15 - 1),
            st.integers(-(2**31), 2**31 - 1),
            st.sampled_from([0, 1]),
        ),
        max_size=5,
    )
)
def test_a_row_description_goes_round(columns: list[Column]) -> None:
    assert codec.read_row_description(body(codec.row_description(columns))) == tuple(columns)


@given(st.lists(value, max_size=8))
def test_a_data_row_goes_round(values: list[bytes | None]) -> None:
    assert codec.read_data_row(body(codec.data_row(values))) == tuple(values)


@given(name, name, st.lists(value, max_size=5), st.data())
def test_a_bind_goes_round(
    portal: bytes, statement: bytes, values: list[bytes | None], data: st.DataObject
) -> None:
    code = st.sampled_from([0, 1])
    many = st.lists(code, min_size=len(values), max_size=len(values))
    formats = tuple(data.draw(st.just([]) | many | st.lists(code, min_size=1, max_size=1)))
    it = Bind(portal, statement, formats, tuple(values), tuple(data.draw(st.lists(code, max_size=4))))
    assert codec.read_bind(body(codec.bind(it))) == it


READERS = [
    codec.read_startup,
    codec.read_cancel,
    codec.read_report,
    codec.read_row_description,
    codec.read_parameter_description,
    codec.read_data_row,
    codec.read_bind,
    lambda data: list(codec.split(data)),
]


@pytest.mark.parametrize("reader", READERS)
@given(data=st.binary(max_size=200))
def test_garbage_is_read_or_refused_and_nothing_else(reader: object, data: bytes) -> None:
    with contextlib.suppress(WireError):
        reader(data)  # type: ignore[operator]


@given(st.lists(uint, max_size=6))
def test_a_parameter_description_is_read(types: list[int]) -> None:
    data = struct.pack(f"!H{len(types)}I", len(types), *types)
    assert codec.read_parameter_description(data) == tuple(types)


def test_an_error_carries_its_hint_and_never_a_nul() -> None:
    fields = codec.read_report(body(codec.error("FATAL", "28000", "no\0 way", hint="ask")))
    assert fields == {b"S": b"FATAL", b"V": b"FATAL", b"C": b"28000", b"M": b"no way", b"H": b"ask"}


@pytest.mark.parametrize(
    ("tag", "rows"), [(b"SELECT 5", 5), (b"INSERT 0 7", 7), (b"BEGIN", 0), (b"COPY 3", 3), (b"", 0)]
)
def test_a_command_tag_counts_rows(tag: bytes, rows: int) -> None:
    assert codec.command_rows(tag) == rows
