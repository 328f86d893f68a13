"""Pseudonyms: the same look, the same for equal values, of the column's own type."""

from __future__ import annotations

from datetime import date
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.sql.mask import FieldDescription, plan_columns
from proxy.sql.masked import resolve
from proxy.sql.methods import Function, pseudonym
from proxy.sql.rows import rewrite_data_rows
from tests.proxy.sql.door import KEY, Door, data_row, split_rows
from workflows.model import Mask

TEXT, INT2, INT4, INT8, NUMERIC, UUID_, DATE = 25, 21, 23, 20, 1700, 2950, 1082
SIZE = {INT2: 2, INT4: 4, INT8: 8}


def of(type_oid: int, binary: bool = False, key: bytes = KEY) -> Function:
    found = pseudonym(key, type_oid, binary)
    assert found is not None
    return found


def shape(text: str) -> str:
    def one(char: str) -> str:
        if char.isalnum():
            return "9" if char.isdigit() and char.isascii() else "A" if char.isupper() else "a"
        return char

    return "".join(map(one, text))


@given(st.text(st.characters(codec="ascii", exclude_characters="\0"), max_size=40))
def test_a_texts_pseudonym_has_its_look_and_only_its_punctuation(value: str) -> None:
    shown = of(TEXT)(value.encode())
    assert shown is not None
    assert shape(shown.decode()) == shape(value)
    assert of(TEXT)(value.encode()) == shown


@given(st.text(max_size=40))
def test_no_letter_beyond_ascii_stays_what_it_was(value: str) -> None:
    shown = of(TEXT)(value.encode())
    assert shown is not None
    assert len(shown.decode()) == len(value)
    assert all(char.isascii() or char.isspace() for char in shown.decode())


def test_pseudonyms_differ_between_keys_and_between_values() -> None:
    shown = {of(TEXT, key=key)(b"ada@example.com") for key in (b"a", b"b", b"c")}
    assert len(shown) == 3
    assert len({of(TEXT)(b"user-%04d" % n) for n in range(1000)}) == 1000


@given(st.sampled_from(sorted(SIZE)), st.data())
def test_an_integers_pseudonym_is_one_of_as_many_digits_in_either_format(
    type_oid: int, data: st.DataObject
) -> None:
    size = SIZE[type_oid]
    most = (1 << (8 * size - 1)) - 1
    value = data.draw(st.integers(-most - 1, most))
    shown = of(type_oid)(str(value).encode())
    assert shown is not None
    assert (len(shown), int(shown) < 0) == (len(str(value)), value < 0)
    assert -most - 1 <= int(shown) <= most
    assert of(type_oid, binary=True)(value.to_bytes(size, signed=True)) == int(shown).to_bytes(
        size, signed=True
    )


@given(st.uuids())
def test_a_uuids_pseudonym_is_a_uuid_alike_in_either_format(value: UUID) -> None:
    shown = of(UUID_)(str(value).encode())
    assert shown is not None
    assert UUID(shown.decode()).version == 4
    assert of(UUID_, binary=True)(value.bytes) == UUID(shown.decode()).bytes


@given(st.dates())
def test_a_dates_pseudonym_is_a_date_alike_in_either_format(value: date) -> None:
    shown = of(DATE)(value.isoformat().encode())
    assert shown is not None
    new = date.fromisoformat(shown.decode())
    days = (value - date(2000, 1, 1)).days.to_bytes(4, signed=True)
    assert of(DATE, binary=True)(days) == (new - date(2000, 1, 1)).days.to_bytes(4, signed=True)


@given(st.sampled_from([INT2, INT4, INT8, NUMERIC, UUID_, DATE]), st.booleans(), st.binary(max_size=20))
def test_what_is_no_value_of_the_type_never_shows(type_oid: int, binary: bool, value: bytes) -> None:
    method = pseudonym(KEY, type_oid, binary)
    shown = method(value) if method is not None else None
    assert shown is None or shown != value or len(value) < 4


@pytest.mark.parametrize("binary", [False, True])
@pytest.mark.parametrize("type_oid", [16, 700, 701, 1114, 1184, 17, 3802])
def test_a_type_without_pseudonyms_becomes_null(type_oid: int, binary: bool) -> None:
    assert pseudonym(KEY, type_oid, binary) is None


def test_a_pseudonym_of_a_masked_column_still_joins(sample: str) -> None:
    door = Door(sample)
    try:
        masks = resolve(
            door.masks.catalog,
            (Mask("public.users", "id", "pseudonym"), Mask("public.users", "email", "pseudonym")),
        )
        (users,) = masks.catalog.find("public", "users")
        fields = [FieldDescription("id", users.oid, 1, INT4), FieldDescription("email", users.oid, 3, TEXT)]
        plan = plan_columns(fields, None, masks, KEY)
        rows = rewrite_data_rows(data_row([b"12", b"ada@x.org"]) + data_row([b"12", b"ada@x.org"]), plan)
    finally:
        door.close()
    first, second = split_rows(rows)
    assert first == second
    assert first[0] is not None
    assert first[1] is not None
    assert first[1][3:4] == b"@"
    assert first != [b"12", b"ada@x.org"]
