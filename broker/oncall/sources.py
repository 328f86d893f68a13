"""Which adapter answers for which source: one line plugs one in."""

from __future__ import annotations

from broker.oncall import Source

SOURCES: dict[str, Source] = {}
