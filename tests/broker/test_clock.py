"""The broker's clock: nothing that happens to the machine's clock makes access last longer."""

from __future__ import annotations

from datetime import timedelta

import pytest

from broker import clock
from broker.clock import SystemClock


class Machine:
    """A machine whose wall clock can be set, while it runs on."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.wall, self.running = 1_780_000_000.0, 5_000.0
        patch.setattr(clock, "_wall", lambda: self.wall)
        patch.setattr(clock, "_running", lambda: self.running)

    def runs(self, seconds: float) -> None:
        self.wall += seconds
        self.running += seconds


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Machine:
    return Machine(monkeypatch)


def test_a_clock_that_is_set_back_does_not_go_back(machine: Machine) -> None:
    ours = SystemClock()
    before = ours.now()
    machine.runs(10)
    machine.wall -= 3600
    assert ours.now() - before == timedelta(seconds=10)
    machine.runs(3600)
    assert ours.now() - before == timedelta(seconds=3610)


def test_a_clock_that_is_set_forward_is_followed(machine: Machine) -> None:
    ours = SystemClock()
    before = ours.now()
    machine.wall += 3600
    assert ours.now() - before == timedelta(seconds=3600)


def test_a_clock_that_keeps_time_is_told_as_it_is(machine: Machine) -> None:
    ours = SystemClock()
    for _ in range(1000):
        machine.runs(0.123456)
        assert abs(ours.now().timestamp() - machine.wall) < 1e-5


def test_a_pause_of_the_process_between_two_looks_moves_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    machine = Machine(monkeypatch)

    def slow() -> float:
        read = machine.wall
        machine.runs(0.5)  # the process sleeps right here
        return read

    ours = SystemClock()
    monkeypatch.setattr(clock, "_wall", slow)
    for _ in range(10):
        ours.now()
    assert abs(ours.now().timestamp() - machine.wall) < 1e-5
