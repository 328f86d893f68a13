"""Step-up: decisions that need proof of the person beyond their login. Pure.

Whoever has verified the proof (broker/identity/step_up.py) hands it in with the decision. It is good for one
version of what is decided, the one that its giver was shown.
"""

from __future__ import annotations

from dataclasses import dataclass

from workflows.model import Refusal

NEEDED = "step-up"
"""The code of the refusal that a proof overcomes."""


@dataclass(frozen=True, slots=True)
class Proof:
    """`by` is what the trail tells of it, like “passkey K-7K3F9Q”. `version` is the version that was shown;
    0 where there was none yet.
    """

    by: str
    version: int = 0


def lacking(wanted: bool, proof: str) -> Refusal | None:
    """The refusal where a decision wants proof and has none."""
    if not wanted or proof:
        return None
    return Refusal(
        NEEDED, "This needs your passkey: a login or a Slack account alone does not decide it.", "Ask again."
    )


def stale(proof: Proof | None, version: int) -> Refusal | None:
    """The refusal where something else is decided now than was shown."""
    if proof is None or proof.version == version:
        return None
    return Refusal("changed", "It has changed since you looked, so nothing was decided.", "Look again.")
