"""Answers to the smaller commands, as text and blocks. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from bot.markup import Block, Blocks, actions, button, code, context, date, plain, section
from bot.shown import Faces, begins_later, pointer
from workflows.grammar import VERBS, Mistake
from workflows.lines import Request
from workflows.model import ExtensionState, GrantState, RequestState, ReviewState, StatementReview, Story
from workflows.policy import spell

_MOST = 10


def mistake(found: Mistake) -> tuple[str, Blocks]:
    """What was wrong, and the mended line ready to press; or the form with what was understood."""
    text = plain(found.why, 1500)
    blocks: Blocks = [section(f"🤔 {text}")]
    buttons = []
    if found.mended:
        blocks.append(section(code(f"/access {found.mended}")))
        buttons.append(button("mended", "Yes, do that", found.mended[:2000], style="primary"))
    if found.draft is not None:
        buttons.append(button("form", "Open the form", found.draft.line()[:2000]))
    if buttons:
        blocks.append(actions("mistake", *buttons))
    mended = f" → /access {plain(found.mended, 1500)}" if found.mended else ""
    return text + mended, blocks


def help_(topic: str) -> tuple[str, Blocks]:
    verbs = [topic] if topic in VERBS else list(VERBS)
    lines = [f"{code('/access ' + VERBS[verb].usage)} {VERBS[verb].about}" for verb in verbs]
    blocks = [section("\n".join(lines)), context("`/access` alone opens a form.")]
    return "How to use /access", blocks


def asked(story: Story, faces: Faces) -> str:
    """What came of a request that was just made."""
    request = story.request
    what = f"{code(request.resource)} as {code(request.role)} for {spell(request.duration)}"
    what += f", for {faces.person(request.beneficiary)}" if request.beneficiary else ""
    what += f", from {date(request.starts_at)}" if request.starts_at else ""
    if story.grant is not None:
        return f"🔧 {request.id}: no approval is needed for {what}. I write to you when the gate is open."
    groups = " and ".join(faces.group(quorum.group) for quorum in request.quorum)
    lapse = date(request.lapses_at)
    return f"⏳ {request.id}: asked {groups} for {what}. I write to you when they decide; it lapses {lapse}."


def submitted(review: StatementReview) -> str:
    """What came of a statement that was just submitted."""
    where = f"{code(review.resource)} as {code(review.role)}"
    if review.state is not ReviewState.PENDING:
        return f"🔧 {review.id}: no approval is needed on {where}. I write to you what comes of it."
    groups = " and ".join(plain(quorum.group, 80) for quorum in review.quorum)
    lapse = date(review.lapses_at)
    return f"⏳ {review.id}: asked {groups} to let it run on {where}. I write to you; it lapses {lapse}."


def moved(story: Story, verb: str) -> str:
    """The answer to a command that did what it says."""
    request = story.request
    back = "refused" if request.closed_by == request.beneficiary else "taken back"
    lines = {
        "approve": f"✅ {request.id}: your yes is noted.",
        "deny": f"⛔ {request.id} is denied.",
        "cancel": f"↩️ {request.id} is {back}.",
        "release": f"⚪ {code(request.resource)} is given back.",
        "revoke": f"🛑 {request.id}: {plain(request.holder, 80)} no longer has {code(request.resource)}.",
        "nudge": f"👋 {request.id}: the approvers are told once more.",
        "claim": f"👀 {request.id}: you are looking, so nobody else is called for a while.",
    }
    if verb == "deny" and request.extensions:
        return f"⛔ {request.id}: no more time; what is open ends as it was."
    return lines[verb] if verb in lines else _moved_urgently(story, verb)


def _moved_urgently(story: Story, verb: str) -> str:
    request, grant = story.request, story.grant
    if verb == "drill":
        return f"🧪 {request.id}: a drill on {code(request.resource)}. Everybody is told; nothing is open."
    if verb == "review" and request.emergency:
        return f"📋 {request.id} was found {request.emergency.verdict}."
    if verb == "extend" and grant and request.extensions[-1].state is ExtensionState.GRANTED:
        return f"⏱️ {request.id} is open until {date(grant.expiry)} now."
    return f"⏳ {request.id}: the approvers decide on more time."


def state_of(story: Story) -> str:
    request, grant = story.request, story.grant
    if request.state is RequestState.PENDING:
        return f"⏳ waits, lapses {date(request.lapses_at)}"
    if grant is None:
        return request.state.value
    if grant.state is GrantState.MINTING:
        if begins_later(story):
            return f"📅 approved, opens {date(grant.not_before)}"
        return f"🔧 {'emergency' if request.emergency else 'approved'}, the gate is being opened"
    if grant.state is GrantState.ACTIVE:
        if request.emergency and request.emergency.drill:
            return f"the gate holds it, until {date(grant.expiry)}; nobody is let in"
        return f"🟢 until {date(grant.expiry)}"
    return f"⚪ {grant.end_reason.value if grant.end_reason else 'ended'}"


def line_of(story: Story, who: str = "") -> str:
    request = story.request
    kind = ""
    if request.emergency is not None:
        kind = "🧪 drill · " if request.emergency.drill else "🚨 emergency · "
    name = f"{who}: {kind}" if who else kind
    return f"{name}{code(request.resource)} as {code(request.role)} — {state_of(story)} · {request.id}"


def listed(title: str, rows: Sequence[tuple[str, Block | None]], none: str) -> Blocks:
    """A heading and a line a row, with a button where there is one."""
    blocks = [section(f"*{title}*" if rows else f"*{title}*\n{none}")]
    blocks += [section(line, accessory) for line, accessory in rows[:_MOST]]
    if len(rows) > _MOST:
        blocks.append(context(f"and {len(rows) - _MOST} more"))
    return blocks


def mine(stories: Sequence[Story]) -> list[tuple[str, Block | None]]:
    """The open ones first and at most three that are over, each with the way out of it."""
    open_ = [s for s in stories if is_open(s)]
    over = [s for s in stories if not is_open(s)][:3]
    return [(line_of(story), _way_out(story)) for story in [*open_, *over]]


def waiting(stories: Sequence[Story], names: dict[str, str]) -> list[tuple[str, Block | None]]:
    found: list[tuple[str, Block | None]] = []
    for story in stories:
        who = names.get(story.request.requester, story.request.requester)
        text = f"{line_of(story, plain(who, 80))}\n>{plain(story.request.reason) or '_no reason_'}"
        found.append((text, button("approve", "Approve", pointer(story), style="primary")))
    return found


def is_open(story: Story) -> bool:
    if story.grant is not None:
        return story.grant.state is not GrantState.ENDED
    return story.request.state is RequestState.PENDING


def _way_out(story: Story) -> Block | None:
    request, grant = story.request, story.grant
    if request.emergency and request.emergency.drill:
        return None
    if request.state is RequestState.PENDING:
        question = ("Take it back?", "The request ends and nobody can approve it.", "Take it back")
        return button("cancel", "Cancel", pointer(story), confirm=question)
    if grant is not None and grant.state is not GrantState.ENDED:
        question = ("Done?", "The gate drops at once and open sessions are cut.", "Release")
        return button("release", "Release", pointer(story), confirm=question)
    line = Request(request.resource, request.role, request.duration, " ".join(request.reason.split())).line()
    return button("mended", "Ask again", line[:2000])


def why(story: Story, decided: str, explained: Sequence[str]) -> str:
    """Why a request is as it is."""
    request, grant = story.request, story.grant
    lines = [
        f"*{request.id}* · {line_of(story)}",
        f"Rule {plain(request.rule, 80)}: {plain(decided, 300)}.",
    ]
    for approval in request.approvals:
        word = "yes" if approval.yes else "no"
        said = f": {plain(approval.reason)}" if approval.reason else ""
        lines.append(f"{plain(approval.approver, 80)} said {word}{said}")
    if request.closed_by and not request.approvals:
        lines.append(f"Ended by {plain(request.closed_by, 80)}")
    if grant is not None and grant.end_note:
        lines.append(f"Note: {plain(grant.end_note)}")
    lines += [plain(line, 500) for line in explained]
    return "\n".join(lines)
