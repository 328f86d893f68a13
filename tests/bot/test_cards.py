"""Cards of every state: within Slack's limits whatever people type, and saying only what the story says."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bot.cards import Done, Faces, approver_card, requester_card
from bot.markup import plain
from bot.notes import notes
from bot.sandbox.block_kit_rules import check_message, too_many_characters
from workflows.model import (
    AccessRequest,
    Approval,
    EndReason,
    Grant,
    GrantState,
    Group,
    Quorum,
    RequestState,
    Story,
    Terms,
)

NOW = datetime(2026, 11, 24, 12, 0, tzinfo=UTC)
texts = st.one_of(
    st.text(max_size=700), st.sampled_from(["<!channel>", "&lt;", "`" * 600, "<@U1|x>", "*b* _i_ ~s~"])
)
names = st.text(min_size=1, max_size=80)
states = st.sampled_from(list(RequestState))
grant_states = st.sampled_from(list(GrantState))


@st.composite
def stories(draw: st.DrawFn) -> Story:
    state = draw(states)
    approvals = draw(st.lists(st.builds(Approval, names, st.booleans(), st.just(NOW), texts), max_size=4))
    request = AccessRequest(
        id="R-7K3F9Q",
        requester=draw(names),
        resource=draw(names),
        role=draw(names),
        duration=draw(st.timedeltas(timedelta(minutes=1), timedelta(days=365))),
        reason=draw(texts),
        rule=draw(names),
        quorum=tuple(draw(st.lists(st.builds(Quorum, names, st.integers(1, 5)), max_size=3))),
        terms=Terms(),
        created_at=NOW,
        lapses_at=NOW + timedelta(hours=8),
        state=state,
        approvals=tuple(approvals),
        closed_by=draw(names) if state in (RequestState.DENIED, RequestState.CANCELLED) else "",
        close_reason=draw(texts),
    )
    return Story(
        request, draw(grants(request)) if state is RequestState.APPROVED else None, draw(st.integers(1, 9))
    )


@st.composite
def grants(draw: st.DrawFn, request: AccessRequest) -> Grant:
    state = draw(grant_states)
    ended = state is GrantState.ENDED
    reason = draw(st.sampled_from(list(EndReason))) if ended else None
    return Grant(
        id="G-7K3F9Q",
        request_id=request.id,
        principal=request.requester,
        resource=request.resource,
        role=request.role,
        terms=Terms(),
        not_before=NOW,
        expiry=NOW + request.duration,
        state=state,
        held_by="gate" if state is GrantState.ACTIVE or (ended and reason is not EndReason.FAILED) else "",
        end_reason=reason,
        ended_by=draw(names) if reason in (EndReason.RELEASED, EndReason.REVOKED) else "",
        ended_at=NOW if ended else None,
        end_note=draw(texts) if ended else "",
    )


faces = st.builds(
    Faces,
    slack=st.just({}),
    names=st.just({}),
    groups=st.just({"dba": Group("dba", "Database approvers", "C1", "S1")}),
    resource=st.text(max_size=200),
    done=st.none() | st.builds(Done, *(st.integers(0, 10**12) for _ in range(5))),
    public_url=st.sampled_from(["", "https://portcullis.example.com"]),
)


@settings(max_examples=300, deadline=None)
@given(stories(), faces)
def test_every_card_is_within_slacks_limits_whatever_was_typed(story: Story, shown: Faces) -> None:
    for card in (approver_card(story, shown, "dba", "card:0"), requester_card(story, shown, "own")):
        assert check_message(card.blocks) == []
        assert not too_many_characters(card.blocks)
        assert card.text.strip()
        assert len(card.text) < 4000
        assert len(json.dumps(card.metadata)) < 3000


@settings(max_examples=300, deadline=None)
@given(stories(), faces)
def test_no_text_of_a_person_becomes_a_mention_or_a_link(story: Story, shown: Faces) -> None:
    for card in (approver_card(story, shown, "dba", "card:0"), requester_card(story, shown, "own")):
        for text in marked_up(card.blocks):
            assert all(part.startswith(("date^", "subteam^S1")) for part in text.split("<!")[1:])
            assert "<@" not in text
            assert "<http" not in text
    for note in notes(story, shown):
        assert "<@" not in note.text
        assert "<!channel" not in note.text


@settings(max_examples=300, deadline=None)
@given(stories(), faces)
def test_has_is_said_only_of_an_active_grant_and_decisions_are_offered_only_while_pending(
    story: Story, shown: Faces
) -> None:
    active = story.grant is not None and story.grant.state is GrantState.ACTIVE
    pending = story.request.state is RequestState.PENDING
    card, own = approver_card(story, shown, "dba", "card:0"), requester_card(story, shown, "own")
    assert ("🟢" in headline(card.blocks)) is active
    assert ("access psql" in json.dumps(own.blocks, ensure_ascii=False)) >= active
    assert ("approve" in action_ids(card.blocks)) is pending
    assert ("enter" in action_ids(own.blocks)) is (active and bool(shown.public_url))


@given(stories(), faces)
def test_a_button_carries_an_id_and_a_version_and_nothing_else(story: Story, shown: Faces) -> None:
    card = approver_card(story, shown, "dba", "card:0")
    values = [e["value"] for b in card.blocks if b["type"] == "actions" for e in b["elements"]]
    assert all(value == f"R-7K3F9Q:{story.version}" for value in values)


@given(stories(), faces)
def test_the_thread_only_ever_grows_by_whole_notes(story: Story, shown: Faces) -> None:
    keys = [note.key for note in notes(story, shown)]
    assert len(keys) == len(set(keys))
    assert all(len(f"note:own:{key}") <= 40 for key in keys)


@pytest.mark.parametrize(
    ("text", "shown"),
    [("a & <b>", "a &amp; &lt;b&gt;"), ("a\n\nb", "a b"), ("x" * 600, "x" * 499 + "…")],
)
def test_text_of_people_is_escaped_on_one_line_and_bounded(text: str, shown: str) -> None:
    assert plain(text) == shown


def marked_up(node: Any) -> list[str]:
    """Every text that Slack reads as mark-up."""
    if isinstance(node, dict):
        own = [node["text"]] if node.get("type") == "mrkdwn" else []
        return own + [text for value in node.values() for text in marked_up(value)]
    return [text for item in node for text in marked_up(item)] if isinstance(node, list) else []


def headline(blocks: list[dict[str, Any]]) -> str:
    return str(next(b["text"]["text"] for b in blocks if b["type"] == "section" and "text" in b))


def action_ids(blocks: list[dict[str, Any]]) -> list[str]:
    return [e["action_id"] for b in blocks if b["type"] == "actions" for e in b["elements"]]
