"""How long: `90m`, `1h30`, `2 hours`, `until 18:00`, `eod`.

Times of day are in the asker's own time zone. `eod` is 18:00, and after that midnight.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime, time, timedelta, tzinfo

_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800}
_UNIT = re.compile(r"(s|m|h|d|w)(?:ec|in|r|ay|eek|econd|inute|our)?s?")
_SPAN = re.compile(r"(?:[0-9]+(?:[.,][0-9]+)?[a-z]+)+[0-9]*")
_PIECE = re.compile(r"([0-9]+(?:[.,][0-9]+)?)([a-z]*)")
_NUMBER = re.compile(r"[0-9]+(?:[.,][0-9]+)?")
_CLOCK = re.compile(r"([0-9]{1,2})(?:[:.h]([0-9]{2}))?(am|pm|h)?")
_NAMED = {"noon": time(12), "midday": time(12), "midnight": time(0)}
_END_OF_WORK = time(18)
_LONGEST = 366 * 86400


def read_span(word: str) -> timedelta | None:
    """The span a single word names, None where it names none. More than a year is a year and a day.

    A number after hours counts minutes (`1h30`).
    """
    if not _SPAN.fullmatch(word):
        return None
    seconds, last = 0.0, ""
    for number, name in _PIECE.findall(word):
        unit = _unit(name) if name else {"h": "m", "m": "s", "d": "h", "w": "d"}.get(last)
        if unit is None or len(number) > 12:
            return timedelta(seconds=_LONGEST) if unit else None
        seconds += float(number.replace(",", ".")) * _SECONDS[unit]
        last = unit
    return timedelta(seconds=int(min(seconds, _LONGEST)))


def read_number_and_unit(number: str, unit: str) -> timedelta | None:
    """The span of two words: `2 hours`."""
    return read_span(number + unit) if _NUMBER.fullmatch(number) and _unit(unit) else None


def is_number(word: str) -> bool:
    return _NUMBER.fullmatch(word) is not None


def read_until(word: str, now: datetime, zone: tzinfo) -> timedelta | None:
    """From `now` to the next time the clock of `zone` shows this time of day; None where it is no time."""
    if word in ("eod", "cob"):
        return end_of_day(now, zone)
    at = _NAMED.get(word) or _clock(word)
    return _till(at, now, zone) if at is not None else None


def end_of_day(now: datetime, zone: tzinfo) -> timedelta:
    before = now.astimezone(zone).time() < _END_OF_WORK
    return _till(_END_OF_WORK if before else time(0), now, zone)


def _unit(name: str) -> str | None:
    match = _UNIT.fullmatch(name)
    return match[1] if match else None


def _clock(word: str) -> time | None:
    match = _CLOCK.fullmatch(word)
    if match is None or not (match[2] or match[3]):
        return None
    hour, minute = int(match[1]), int(match[2] or 0)
    if match[3] in ("am", "pm"):
        if not 1 <= hour <= 12:
            return None
        hour = hour % 12 + (12 if match[3] == "pm" else 0)
    if hour == 24 and minute == 0:
        hour = 0
    return time(hour, minute) if hour < 24 and minute < 60 else None


def _till(at: time, now: datetime, zone: tzinfo) -> timedelta:
    """At least a second, whole seconds; a time that a clock change leaves out or repeats is its first one."""
    local = now.astimezone(zone)
    then = datetime.combine(local.date(), at, tzinfo=zone)
    if then.astimezone(UTC) <= now:
        then = datetime.combine(local.date() + timedelta(days=1), at, tzinfo=zone)
    left = then.astimezone(UTC) - now.astimezone(UTC)
    return max(timedelta(seconds=1), timedelta(seconds=int(left.total_seconds())))
