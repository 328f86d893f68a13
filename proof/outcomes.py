"""What came of each test, and what differs between the two ways."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree

PASSED, FAILED, SKIPPED = "passed", "failed", "skipped"


@dataclass(frozen=True)
class Outcome:
    """A test's end. `said` is its failure, or where a suite is exact, what it printed."""

    status: str
    said: str = ""


Outcomes = dict[str, Outcome]


@dataclass(frozen=True)
class Difference:
    """A test that ended otherwise through the gate."""

    test: str
    direct: Outcome
    gate: Outcome


def differences(
    direct: Mapping[str, Outcome], gate: Mapping[str, Outcome], *, exact: bool = False
) -> list[Difference]:
    """The tests whose ends differ; in an `exact` suite also those that printed something else.

    A test that one way does not know at all counts as failed there.
    """
    missing = Outcome(FAILED, "it did not run")
    found = []
    for test in sorted({*direct, *gate}):
        here, there = direct.get(test, missing), gate.get(test, missing)
        if here.status != there.status or (exact and here.said != there.said):
            found.append(Difference(test, here, there))
    return found


def counts(outcomes: Mapping[str, Outcome]) -> dict[str, int]:
    found = Counter(outcome.status for outcome in outcomes.values())
    return {status: found[status] for status in (PASSED, FAILED, SKIPPED)}


def from_junit(path: Path) -> Outcomes:
    """Outcomes from a JUnit XML report, as pytest and node write it."""
    found: Outcomes = {}
    for case in ElementTree.parse(path).getroot().iter("testcase"):
        name = f"{case.get('classname', '')}::{case.get('name', '')}"
        bad = [it for it in case if it.tag in ("failure", "error")]
        if bad:
            found[name] = Outcome(
                FAILED, ((bad[0].get("message") or "") + "\n" + (bad[0].text or ""))[-4000:]
            )
        elif name not in found:
            skipped = any(it.tag == "skipped" for it in case)
            found[name] = Outcome(SKIPPED if skipped else PASSED)
    return found


def from_go(output: str) -> Outcomes:
    """Outcomes from `go test -json`."""
    found: Outcomes = {}
    said: dict[str, list[str]] = {}
    ends = {"pass": PASSED, "fail": FAILED, "skip": SKIPPED}
    for line in output.splitlines():
        if not line.startswith("{"):
            continue
        event = json.loads(line)
        if not event.get("Test"):
            continue
        # A test's own folder, in some of the names, is another one each time.
        test = re.sub(r"/tmp/\w+/", "/tmp/*/", event["Test"])
        name = f"{event['Package'].split('/')[-1]}::{test}"
        if event["Action"] == "output":
            said.setdefault(name, []).append(event["Output"])
        elif event["Action"] in ends:
            status = ends[event["Action"]]
            found[name] = Outcome(status, "".join(said.get(name, []))[-4000:] if status == FAILED else "")
    return found
