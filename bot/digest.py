"""The weekly digest for those who keep the policy: figures in, one message out. Pure but for `post`."""

from __future__ import annotations

from datetime import datetime, time, timedelta
from zoneinfo import ZoneInfo

import structlog
from slack_sdk.errors import SlackApiError

from bot.markup import Blocks, about, code, context, section
from bot.places import Places
from bot.shown import EVENT_TYPE, Card, count
from bot.slack import NO_ENTRY, error_of
from broker import statistics
from broker.service import Service
from broker.statistics import QUICK, Week
from workflows.policy import spell

log = structlog.get_logger(__name__)

_AT = time(9)
"""On Mondays, by the clock of the policy's zone."""
_MOST = 10


def digest_card(week: Week, name: str, place: str) -> Card:
    """What is worth knowing about a week. `name` names the week for finding the message again."""
    emergencies = f"{week.emergencies} emergenc{'y' if week.emergencies == 1 else 'ies'}"
    text = f"The week in access: {count(week.asked, 'request')}, {emergencies}"
    lines = [f"*{text}*", *_deciding(week), *_using(week)]
    blocks: Blocks = [section("\n".join(lines)), *_owed(week)]
    until = week.until - timedelta(days=1)
    blocks.append(context(f"{week.since:%-d %b} to {until:%-d %b %Y}"))
    payload = {"request": name, "place": place, "version": 1}
    return Card(text, blocks, {"event_type": EVENT_TYPE, "event_payload": payload})


def _deciding(week: Week) -> list[str]:
    lines = [f"Decided: {week.decided} yes, {week.denied} no, {week.lapsed} lapsed, {week.at_once} at once"]
    if week.usual is not None and week.slowest is not None:
        lines.append(
            f"⏱️ A yes took {about(week.usual)} at the median, {about(week.slowest)} at the slowest 5 %"
        )
    if week.quick:
        lines.append(f"⚡ {week.quick} of {week.decided} within {spell(QUICK)}: were they read?")
    if week.lapsed:
        lines.append(f"⌛ {count(week.lapsed, 'request')} lapsed unanswered: is somebody there?")
    return lines


def _using(week: Week) -> list[str]:
    if not week.unused:
        return []
    return [f"💤 {week.unused} of {week.ended} that ended were never used: could they be shorter?"]


def _owed(week: Week) -> Blocks:
    if not week.unreviewed:
        return []
    named = ", ".join(code(request) for request in week.unreviewed[:_MOST])
    more = f" and {len(week.unreviewed) - _MOST} more" if len(week.unreviewed) > _MOST else ""
    return [section(f"📋 Emergencies not reviewed: {named}{more}")]


def last_week(now: datetime, zone: ZoneInfo) -> tuple[datetime, datetime, str] | None:
    """The week whose digest is due on this day (from, until, name); None before Monday's hour."""
    local = now.astimezone(zone)
    monday = local.date() - timedelta(days=local.weekday())
    if local < datetime.combine(monday, _AT, zone):
        return None
    since = monday - timedelta(days=7)
    year, number, _ = since.isocalendar()
    first, last = (datetime.combine(day, time(), zone) for day in (since, monday))
    return first, last, f"W-{year}-{number:02}"


async def post(service: Service, places: Places) -> None:
    """Post last week's digest to the administrators' channels, once. May be called at any time, and often."""
    due = last_week(service.clock.now(), ZoneInfo(service.config.timezone))
    if due is None:
        return
    since, until, name = due
    policy = service.policy
    channels = [policy.groups[g].channel for g in sorted(policy.admins) if g in policy.groups]
    week: Week | None = None
    for index, channel in enumerate(filter(None, channels)):
        kind = f"digest:{index}"
        if await places.is_shown(name, kind):
            continue
        week = week or await statistics.week(service.store, since, until)
        if not (week.asked or week.emergencies or week.unreviewed):
            return
        try:
            await places.show(name, kind, channel, digest_card(week, name, kind), 1)
        except SlackApiError as error:
            if error_of(error) not in NO_ENTRY:
                raise
            log.error("digest_undelivered", problem=error_of(error))
