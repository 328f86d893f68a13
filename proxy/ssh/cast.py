"""A terminal's part of a recording as an asciicast, version 3 (https://docs.asciinema.org/manual/asciicast/v3/)."""

from __future__ import annotations

import json
import re
from datetime import datetime

from proxy.recording import Recording, Screen

_EVENTS = ("o", "r")


def casts(recording: Recording) -> tuple[str, ...]:
    """One asciicast for each channel that had a terminal, in the order of their beginnings."""
    channels: dict[int, list[Screen]] = {}
    for entry in recording.happened:
        if isinstance(entry, Screen):
            channels.setdefault(entry.channel, []).append(entry)
    return tuple(_cast(recording, screens) for screens in channels.values() if _sized(screens))


def _sized(screens: list[Screen]) -> bool:
    return any(it.event == "r" for it in screens)


def _cast(recording: Recording, screens: list[Screen]) -> str:
    it = recording.header
    size = next(screen.text for screen in screens if screen.event == "r")
    width, _, height = size.partition("x")
    header = {
        "version": 3,
        "term": {"cols": int(width) or 80, "rows": int(height) or 24},
        "timestamp": int(datetime.fromisoformat(it.started).timestamp() + screens[0].at),
        "title": f"{it.principal} on {it.resource} as {it.role}, {it.session}",
    }
    lines: list[object] = [header]
    before = screens[0].at
    for screen in screens:
        if (text := _told(screen)) is not None:
            lines.append([round(screen.at - before, 6), screen.event, text])
            before = screen.at
    return "".join(json.dumps(line) + "\n" for line in lines)


def _told(screen: Screen) -> str | None:
    """What an asciicast has of it: output, sizes, and the exit as a number, where there was one."""
    if screen.event in _EVENTS:
        return screen.text
    exited = re.match(r"exit (\d+)", screen.text) if screen.event == "x" else None
    return exited[1] if exited else None
