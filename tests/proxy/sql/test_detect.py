"""What detectors find in texts, and what they leave alone."""

from __future__ import annotations

import json
import re
import time
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from proxy.sql.detect import DETECTORS, MOST, hide, hider, json_hider, refuser
from proxy.sql.mask import FieldDescription, plan_columns
from proxy.sql.masked import MaskSet, resolve
from proxy.sql.rows import rewrite_data_rows
from tests.proxy.sql.door import KEY, data_row, split_rows

CORPUS: dict[str, list[str]] = yaml.safe_load(
    Path(__file__).with_name("corpus").joinpath("detect.yaml").read_text()
)
ALL = tuple(DETECTORS)


def _marked(text: str) -> tuple[str, set[str]]:
    return re.sub("[«»]", "", text), set(re.findall("«(.*?)»", text))


@pytest.mark.parametrize("name", ALL)
def test_a_detector_finds_what_is_marked_and_nothing_else(name: str) -> None:
    right = wrong = missed = 0
    mistakes = []
    for entry in CORPUS[name]:
        text, wanted = _marked(str(entry))
        found = {text[start:end] for start, end in DETECTORS[name](text)}
        right += len(found & wanted)
        wrong += len(found - wanted)
        missed += len(wanted - found)
        if found != wanted:
            mistakes.append((text, found, wanted))
    precision, recall = right / max(1, right + wrong), right / max(1, right + missed)
    print(f"\nscore: {name}: precision {precision:.2f}, recall {recall:.2f}")
    assert mistakes == []


def test_what_is_found_is_replaced_where_it_stands() -> None:
    text = "Ada <ada@example.com>, card 4111111111111111, since 2024"
    assert hide(text, ALL) == "Ada <***>, card ***, since 2024"
    assert hide(text, ("card",)) == "Ada <ada@example.com>, card ***, since 2024"
    assert hider(ALL)(text.encode()) == b"Ada <***>, card ***, since 2024"


def test_a_number_that_stands_against_another_is_found_too() -> None:
    assert hide("tel +49 30 9018+33 1 42 68 53 00!", ALL) == "tel ******!"
    assert "415" not in hide("+1 415-555-2671" * 50, ALL)


def test_findings_that_overlap_are_hidden_together() -> None:
    assert hide("x +1 415-555-2671 y", (*ALL, "phone")) == "x *** y"


@given(st.text(max_size=60))
def test_a_text_in_which_nothing_is_found_stays_as_it_is(text: str) -> None:
    hidden = hide(text, ALL)
    assert hidden == text or "***" in hidden
    assert hide(hidden, ALL) == hidden


@given(st.binary(max_size=60))
def test_any_bytes_go_through(value: bytes) -> None:
    for way in (hider(ALL), json_hider(ALL, False), json_hider(ALL, True), refuser(ALL)):
        shown = way(value)
        assert shown is None or isinstance(shown, bytes)


documents = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=20)
    | st.sampled_from(["ada@example.com", "4111111111111111", 4111111111111111]),
    lambda inside: st.lists(inside, max_size=4) | st.dictionaries(st.text(max_size=8), inside, max_size=4),
    max_leaves=12,
)  # fmt: skip


@given(documents)
def test_json_stays_json_and_holds_nothing_that_is_found(document: object) -> None:
    for text in (json.dumps(document), json.dumps(document, ensure_ascii=False)):
        hidden = json_hider(ALL, False)(text.encode("utf-8", "replace"))
        json.loads(hidden)
        assert b"ada@example.com" not in hidden
        assert b"4111111111111111" not in hidden


def test_json_escapes_do_not_hide_what_is_found() -> None:
    assert json_hider(ALL, False)(b'{"a": "ada\\u0040example.com"}') == b'{"a": "***"}'
    assert json_hider(ALL, True)(b'\x01{"ada@example.com": 4111111111111111}') == b'\x01{"***": "***"}'


@pytest.mark.parametrize(
    "text",
    ["a" * MOST, "1" * MOST, "1 " * (MOST // 2), "a@" * (MOST // 2), "a." * (MOST // 2),
     "DE89 " * (MOST // 5),
     "a@a." * (MOST // 4), "+1-" * (MOST // 3), "+1 415-555-2671 " * (MOST // 16), "x@" + "a-" * (MOST // 3),
     "(415) " * (MOST // 6), "536-90-4398 " * (MOST // 12), '"' * MOST,
     '"\\' * (MOST // 2)],
)  # fmt: skip
def test_no_text_takes_long(text: str) -> None:
    began = time.process_time()
    hider(ALL)(text.encode())
    json_hider(ALL, False)(text.encode())
    assert time.process_time() - began < 3


def test_a_text_too_long_to_search_is_masked_whole() -> None:
    assert hider(ALL)(b"a" * (MOST + 1)) == b"***"
    assert json_hider(ALL, True)(b"\x01" + b"a" * (MOST + 1)) == b'\x01"***"'
    assert refuser(ALL)(b"a" * (MOST + 1)) is None


TEXT, INT8, JSONB, TEXTS, OWN = 25, 20, 3802, 1009, 99_999


@pytest.mark.parametrize(
    ("type_oid", "form", "value", "shown"),
    [
        (TEXT, 0, b"to ada@example.com", b"to ***"),
        (TEXT, 1, b"to ada@example.com", b"to ***"),
        (INT8, 0, b"4111111111111111", b"4111111111111111"),
        (JSONB, 1, b'\x01{"a": "ada@example.com"}', b'\x01{"a": "***"}'),
        (TEXTS, 0, b"{ada@example.com,x}", b"{***,x}"),
        (TEXTS, 1, b"\0\0\0\x0fada@example.com", None),
        (OWN, 0, b"(1,ada@example.com)", b"(1,***)"),
        (OWN, 1, b"\0\0ada@example.com", None),
        (TEXT, 0, None, None),
    ],
)
def test_columns_of_text_are_searched_by_their_type_and_format(
    masks: MaskSet, type_oid: int, form: int, value: bytes | None, shown: bytes | None
) -> None:
    fields = [FieldDescription("x", 0, 0, type_oid, format=form)]
    plan = plan_columns(fields, None, resolve(masks.catalog, ()), KEY, ALL)
    assert split_rows(rewrite_data_rows(data_row([value]), plan)) == [[shown]]
