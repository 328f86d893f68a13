"""How long: `90m`, `1h30`, `2 hours`, `until 18:00`, `eod`. And from when: `18:00`, `tomorrow 9:00`.

Times of day are in the asker's own time zone. `eod` is 18:00, and after that midnight.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import UTC, datetime, time, timedelta, tzinfo

_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800}
_UNIT = re.compile(r"(s|m|h|d|w)(?:ec|in|r|ay|eek|econd|inute|our)?s?")
_SPAN = re.compile(r"(?:[0-9]+(?:[.,][0-9]+)?[a-z]+)+[0-9]*")
_PIECE = re.compile(r"([0-9]+(?:[.,][0-9]+)?)([a-z]*)")
_NUMBER = re.compile(r"[0-9]+(?:[.,][0-9]+)?")
_CLOCK = re.compile(r"([0-9]{1,2})(?:[:.h]([0-9]{2}))?(am|pm|h)?")
_ISO = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}t[0-9]{2}:[0-9]{2}(:[0-9]{2})?(z|[+-][0-9]{2}:[0-9]{2})?")
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


def read_moment(words: Sequence[str], now: datetime, zone: tzinfo) -> tuple[datetime, int] | None:
    """The instant that the first words name, and how many they are; None where they name none.

    A time of day alone is the next one; `today`, `tomorrow` or a day of the week may stand before it. An
    instant of ISO 8601 stands for itself, in `zone` where it names none.
    """
    if not words:
        return None
    if (exact := _exact(words[0], zone)) is not None:
        return exact, 1
    local = now.astimezone(zone)
    days = _days_ahead(words[0], local)
    rest = words if days is None else words[1:]
    if not rest:
        return None
    taken = 2 if len(rest) > 1 and rest[1] in ("am", "pm") else 1
    key = "".join(rest[:taken])
    at = _NAMED.get(key) or _clock(key)
    if at is None:
        return None
    if days is None:
        return now + _till(at, now, zone), taken
    then = datetime.combine(local.date() + timedelta(days=days), at, tzinfo=zone).astimezone(UTC)
    if then <= now and words[0] in _WEEKDAYS:
        then = datetime.combine(local.date() + timedelta(days=7), at, tzinfo=zone).astimezone(UTC)
    return then, taken + 1


_WEEKDAYS = ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")


def _days_ahead(word: str, local: datetime) -> int | None:
    if word in ("today", "tomorrow"):
        return int(word == "tomorrow")
    return (_WEEKDAYS.index(word) - local.weekday()) % 7 if word in _WEEKDAYS else None


def _exact(word: str, zone: tzinfo) -> datetime | None:
    if not _ISO.fullmatch(word):
        return None
    try:
        found = datetime.fromisoformat(word.upper())
        return (found if found.tzinfo else found.replace(tzinfo=zone)).astimezone(UTC)
    except (ValueError, OverflowError):
        return None


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
