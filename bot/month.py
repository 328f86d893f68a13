"""The monthly report on emergencies for those who keep or audit the policy: figures in, message out. Pure."""

from __future__ import annotations

from datetime import datetime, time
from zoneinfo import ZoneInfo

from bot.markup import Blocks, about, code, context, section
from bot.shown import EVENT_TYPE, Card, count
from broker.emergency_figures import Month

_AT = time(9)
"""On the first of a month, by the clock of the policy's zone."""


def last_month(now: datetime, zone: ZoneInfo) -> tuple[datetime, datetime, datetime, str] | None:
    """The month whose report is due on this day, as (the beginning of the one before, its own, its end,
    name); None before the first's hour.
    """
    local = now.astimezone(zone)
    if local < datetime.combine(local.date().replace(day=1), _AT, zone):
        return None
    until = (local.year, local.month)
    since, before = _earlier(*until), _earlier(*_earlier(*until))
    starts = [datetime(year, month, 1, tzinfo=zone) for year, month in (before, since, until)]
    return starts[0], starts[1], starts[2], f"M-{since[0]}-{since[1]:02}"


def _earlier(year: int, month: int) -> tuple[int, int]:
    return (year, month - 1) if month > 1 else (year - 1, 12)


def is_worth_telling(month: Month) -> bool:
    """Whether there is anything to say; that there are none any more is something."""
    return bool(month.emergencies or month.before)


def month_card(month: Month, name: str, place: str) -> Card:
    """How often the glass was broken, where, what was found, and what to ask about it."""
    text = f"The month in emergencies: {month.emergencies}, after {month.before} in the month before"
    lines = [f"*{text}*", *_rate(month), *_where(month), *_found(month)]
    blocks: Blocks = [section("\n".join(lines)), context(f"{month.since:%B %Y}")]
    payload = {"request": name, "place": place, "version": 1}
    return Card(text, blocks, {"event_type": EVENT_TYPE, "event_payload": payload})


def _rate(month: Month) -> list[str]:
    if not month.emergencies:
        return []
    every = month.emergencies + month.asked
    share = round(100 * month.emergencies / every)
    whose = count(month.people, "person", "people")
    lines = [f"{month.emergencies} of {every} that wanted in took it first ({share} %), {whose}"]
    if month.waited:
        lines.append(f"⌛ {month.waited} had asked before, and nobody had decided: is somebody there?")
    return lines


def _where(month: Month) -> list[str]:
    lines = []
    for often in month.most:
        usual = (
            f"a yes took {about(often.usual)} at the median: is that too slow?"
            if often.usual is not None
            else "nobody went the usual way: is there one?"
        )
        lines.append(f"🚨 {code(often.resource)} {count(often.times, 'time')}; {usual}")
    return lines


def _found(month: Month) -> list[str]:
    lines = []
    if month.emergencies:
        found = f"{month.justified} justified, {month.not_justified} not, {month.unreviewed} not reviewed yet"
        lines.append(f"📋 Found: {found}")
    drills = count(month.drills, "drill") if month.drills else "no drill: would it work?"
    return [*lines, f"🧪 Rehearsed: {drills}"]
