"""A terminal's part of a recording as an asciicast, version 2 (https://docs.asciinema.org/manual/asciicast/v2/)."""

from __future__ import annotations

import json
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
    began = screens[0].at
    header = {
        "version": 2,
        "width": int(width) or 80,
        "height": int(height) or 24,
        "timestamp": int(datetime.fromisoformat(it.started).timestamp() + began),
        "title": f"{it.principal} on {it.resource} as {it.role}, {it.session}",
    }
    lines: list[object] = [header]
    lines += [[round(s.at - began, 6), s.event, s.text] for s in screens if s.event in _EVENTS]
    return "".join(json.dumps(line) + "\n" for line in lines)
