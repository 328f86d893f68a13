"""The seeds that fuzzing found, and a few hundred mutations of them that are the same every time."""

from __future__ import annotations

import random

import pytest

from tests.fuzz.targets import TARGETS, seeds

MUTATIONS = {"guarding": 150, "parsing": 300}


@pytest.mark.parametrize("target", TARGETS)
def test_every_seed_is_taken_without_a_surprise(target: str) -> None:
    found = list(seeds(target))
    assert found
    for seed in found:
        TARGETS[target](seed)


@pytest.mark.parametrize("target", TARGETS)
def test_mutated_seeds_are_taken_without_a_surprise(target: str) -> None:
    dice = random.Random(target)
    known = list(seeds(target))
    for _ in range(MUTATIONS.get(target, 2000)):
        TARGETS[target](_mutated(dice, dice.choice(known), dice.choice(known)))


def _mutated(dice: random.Random, one: bytes, other: bytes) -> bytes:
    data = bytearray(one[:2000])
    for _ in range(dice.randint(1, 4)):
        at = dice.randrange(len(data) + 1)
        how = dice.randrange(4)
        if how == 0:
            data[at : at + 1] = bytes([dice.randrange(256)])
        elif how == 1:
            del data[at : at + dice.randint(1, 9)]
        elif how == 2:
            data[at:at] = dice.choice(
                [b"'", b'"', b"$$", b"/*", b"--", b"(", b")", b";", b"\\", b"E'", b"\xff\xff"]
            )
        else:
            start = dice.randrange(len(other) + 1)
            data[at:at] = other[start : start + dice.randint(1, 30)]
    return bytes(data)
