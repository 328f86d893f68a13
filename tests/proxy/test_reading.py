"""Reading for speed never reads otherwise than reading slowly."""

from __future__ import annotations

import re

from hypothesis import given
from hypothesis import strategies as st

from proxy.postgres.picture import Picture, Pictures
from proxy.postgres.reading import Reading
from proxy.postgres.turns import key as quick_key
from proxy.sql import lexer
from proxy.sql.catalog import Catalog
from workflows.model import Mask, Terms

CATALOG = Catalog.build(
    [(100, "public", "users", "r")], [(100, 1, "id", 23, "int4", "N"), (100, 2, "email", 25, "text", "S")]
)
pieces = st.sampled_from(
    [
        "select",
        " ",
        "id",
        "1",
        "23",
        "4.5",
        ".",
        "e",
        "$1",
        "'a'",
        "'",
        '"',
        "--",
        "/*",
        "\n",
        "\t",
        "x1",
        "_2",
        "é",
    ]
)
texts = st.lists(pieces, max_size=14).map("".join).map(str.encode) | st.text(max_size=30).map(str.encode)


@given(texts)
def test_a_quick_key_is_the_lexers_key_or_none(text: bytes) -> None:
    key = quick_key(text)
    lexed = lexer.scan(text)
    assert key is None or (key == lexed.key and not lexed.exact)


def reading() -> Reading:
    terms = Terms(masks=(Mask("public.users", "email"),))
    return Reading(Pictures(), Picture("stamp", CATALOG), terms, b"key", 0.0)


@given(
    st.lists(
        texts
        | st.sampled_from(
            [
                b"select id from users order by 0",
                b"select email from users order by 1",
                b"select id, email from users order by 2",
            ]
        ),
        max_size=6,
    )
)
def test_a_verdict_from_memory_is_the_verdict_read_anew(many: list[bytes]) -> None:
    kept = reading()
    for text in many:
        assert kept.verdict(text) == reading().verdict(text)


def test_other_numbers_share_a_verdict_where_constants_do_not_matter() -> None:
    it = reading()
    first = it.verdict(b"select id from users where id = 1")
    assert it.verdict(b"select id from users where id = 22") is first
    assert re.fullmatch(rb"a 0 b", quick_key(b"a 77 b") or b"")


def test_a_verdict_that_depends_on_a_constant_is_not_shared_even_by_a_zero() -> None:
    it = reading()
    zero = it.verdict(b"select id from users order by 0")
    assert zero == reading().verdict(b"select id from users order by 0")
    assert it.verdict(b"select id from users order by 1") == reading().verdict(
        b"select id from users order by 1"
    )
    assert it.verdict(b"select email, id from users order by 1") == reading().verdict(
        b"select email, id from users order by 1"
    )
