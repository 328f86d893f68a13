"""How the gate reads a statement: the ruling on it."""

from __future__ import annotations

from dataclasses import dataclass

from workflows.model import Refusal


@dataclass(frozen=True, slots=True)
class Ruling:
    """What the gate does with a statement. `scrub` takes values out of errors, notices and the recording."""

    refusal: Refusal | None = None
    scrub: bool = False
    label: str = ""


PASS = Ruling()
