"""What cards say of an emergency and of access that begins later: nothing that is not so."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta

from bot.cards import Faces, approver_card, requester_card
from bot.notes import notes
from bot.texts import state_of
from workflows.model import (
    AccessRequest,
    BreakGlass,
    Grant,
    GrantState,
    Quorum,
    RequestState,
    Story,
    Terms,
    Verdict,
)

NOW = datetime(2026, 11, 24, 3, 0, tzinfo=UTC)
HOUR = timedelta(hours=1)
EMERGENCY = BreakGlass(
    "INC-142 <!channel>",
    "night",
    "on call for primary",
    NOW,
    NOW + 24 * HOUR,
    ("security",),
    concerns=("olive was put on call by hand 4m before.",),
)
STORY = Story(
    AccessRequest(
        "R-1", "olive", "prod-db", "readonly", HOUR, "it burns", "night", (Quorum("dba"),), Terms(), NOW,
        NOW + HOUR, RequestState.APPROVED, closed_at=NOW, emergency=EMERGENCY,
    ),
    Grant("G-1", "R-1", "olive", "prod-db", "readonly", Terms(), NOW, NOW + HOUR),
    2,
)  # fmt: skip
FACES = Faces()


def text(story: Story) -> str:
    cards = (approver_card(story, FACES, "dba", "card:0"), requester_card(story, FACES, "own"))
    said = [json.dumps(card.blocks, ensure_ascii=False) + card.text for card in cards]
    return "\n".join([*said, *(note.text for note in notes(story, FACES)), state_of(story)])


def test_an_emergency_is_called_one_and_never_approved() -> None:
    for state in GrantState:
        grant = replace(STORY.grant, state=state, held_by="gate")  # type: ignore[type-var]
        said = text(replace(STORY, grant=grant))
        assert "approved this" in said.lower()
        assert "Approved" not in said
        assert "No approval was needed" not in said
        assert "put on call by hand 4m before" in said
        assert "<!channel>" not in said


def test_a_review_is_told_with_its_verdict() -> None:
    reviewed = replace(EMERGENCY, verdict=Verdict.NOT_JUSTIFIED, reviewed_by="sam", review_note="a drill")
    said = text(replace(STORY, request=replace(STORY.request, emergency=reviewed)))
    assert "not justified" in said
    assert "a drill" in said


def test_access_that_begins_later_is_not_said_to_be_opening() -> None:
    request = replace(STORY.request, emergency=None)
    grant = replace(STORY.grant, not_before=NOW + 6 * HOUR, expiry=NOW + 7 * HOUR)  # type: ignore[type-var]
    said = text(Story(request, grant, 2))
    assert "opening the gate" not in said
    assert "being opened" not in said
    assert "Approved – " in said
