"""The weekly digest for those who keep or audit the policy: figures in, message out. Pure but for `post`,
which posts the monthly report of bot/month.py as well.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from datetime import datetime, time, timedelta
from functools import partial
from zoneinfo import ZoneInfo

import structlog
from slack_sdk.errors import SlackApiError

from bot.markup import Blocks, about, code, context, section
from bot.month import is_worth_telling, last_month, month_card
from bot.places import Places
from bot.shown import EVENT_TYPE, Card, count
from bot.slack import NO_ENTRY, error_of
from broker import emergency_figures, statistics
from broker.service import Service
from broker.statistics import QUICK, Week
from workflows.policy import spell

log = structlog.get_logger(__name__)

_AT = time(9)
"""On Mondays, by the clock of the policy's zone."""
_MOST, _FEW = 10, 3

Make = Callable[[str, str], Awaitable[Card | None]]
"""The card for a channel and a place; None where there is nothing to tell."""


def digest_card(week: Week, name: str, place: str, links: Mapping[str, str]) -> Card:
    """What is worth knowing about a week. `name` names the week, for finding the message again; `links` lead
    to the cards of requests.
    """
    emergencies = f"{week.emergencies} emergenc{'y' if week.emergencies == 1 else 'ies'}"
    text = f"The week in access: {count(week.asked, 'request')}, {emergencies}"
    lines = [f"*{text}*", *_deciding(week, links), *_using(week, links)]
    blocks: Blocks = [section("\n".join(lines)), *_owed(week, links)]
    until = week.until - timedelta(days=1)
    blocks.append(context(f"{week.since:%-d %b} to {until:%-d %b %Y}"))
    payload = {"request": name, "place": place, "version": 1}
    return Card(text, blocks, {"event_type": EVENT_TYPE, "event_payload": payload})


def named_in(week: Week) -> tuple[str, ...]:
    """The requests that the digest names."""
    return tuple(
        dict.fromkeys(
            [*week.quick[:_FEW], *week.lapsed[:_FEW], *week.unused[:_FEW], *week.unreviewed[:_MOST]]
        )
    )


def _deciding(week: Week, links: Mapping[str, str]) -> list[str]:
    lapsed = len(week.lapsed)
    lines = [f"Decided: {week.decided} yes, {week.denied} no, {lapsed} lapsed, {week.at_once} at once"]
    if week.usual is not None and week.slowest is not None:
        lines.append(
            f"⏱️ A yes took {about(week.usual)} at the median, {about(week.slowest)} at the slowest 5 %"
        )
    if week.quick:
        quick = f"{len(week.quick)} of {week.decided} within {spell(QUICK)}: were they read?"
        lines.append(f"⚡ {quick} {_listed(week.quick, links, _FEW)}")
    if week.lapsed:
        asked = f"{count(lapsed, 'request')} lapsed unanswered: is somebody there?"
        lines.append(f"⌛ {asked} {_listed(week.lapsed, links, _FEW)}")
    return lines


def _using(week: Week, links: Mapping[str, str]) -> list[str]:
    if not week.unused:
        return []
    unused = f"{len(week.unused)} of {week.ended} that ended were never used: could they be shorter?"
    return [f"💤 {unused} {_listed(week.unused, links, _FEW)}"]


def _owed(week: Week, links: Mapping[str, str]) -> Blocks:
    if not week.unreviewed:
        return []
    return [section(f"📋 Emergencies not reviewed: {_listed(week.unreviewed, links, _MOST)}")]


def _listed(requests: tuple[str, ...], links: Mapping[str, str], most: int) -> str:
    """The first of these requests, each leading to its card where that can be linked to."""
    named = [f"<{links[one]}|{one}>" if links.get(one) else code(one) for one in requests[:most]]
    more = f" and {len(requests) - most} more" if len(requests) > most else ""
    return f"{', '.join(named)}{more}"


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
    """Post last week's digest, and last month's report on emergencies, to the channels of administrators and
    auditors, once each. May be called at any time, and often.
    """
    now, zone = service.clock.now(), ZoneInfo(service.config.timezone)
    if week := last_week(now, zone):
        await _post(service, places, week[2], "digest", partial(_of_week, service, places, week))
    if month := last_month(now, zone):
        await _post(service, places, month[3], "month", partial(_of_month, service, month))


async def _post(service: Service, places: Places, name: str, kind: str, make: Make) -> None:
    policy = service.policy
    channels = [policy.groups[g].channel for g in sorted(policy.readers) if g in policy.groups]
    for index, channel in enumerate(filter(None, channels)):
        place = f"{kind}:{index}"
        if await places.is_shown(name, place):
            continue
        try:
            card = await make(channel, place)
            if card is None:
                return
            await places.show(name, place, channel, card, 1)
        except SlackApiError as error:
            if error_of(error) not in NO_ENTRY:
                raise
            log.error("digest_undelivered", problem=error_of(error))


async def _of_week(
    service: Service, places: Places, due: tuple[datetime, datetime, str], channel: str, place: str
) -> Card | None:
    since, until, name = due
    week = await statistics.week(service.store, since, until)
    if not (week.asked or week.emergencies or week.unreviewed):
        return None
    links = {request: await places.link(request, channel) for request in named_in(week)}
    return digest_card(week, name, place, links)


async def _of_month(
    service: Service, due: tuple[datetime, datetime, datetime, str], _channel: str, place: str
) -> Card | None:
    *months, name = due
    figures = await emergency_figures.month(service.store, *months)
    return month_card(figures, name, place) if is_worth_telling(figures) else None
