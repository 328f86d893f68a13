"""The result: counts, differences, and what explains them, as JSON and Markdown."""

from __future__ import annotations

import json
import tomllib
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from proof.outcomes import FAILED, PASSED, SKIPPED, Difference, Outcomes, counts, differences

EXPLAINED = Path(__file__).with_name("explained.toml")
PAGE = Path(__file__).parents[1] / "docs/explanation/drivers.md"
POLICIES = ("open", "reading")


@dataclass(frozen=True)
class Row:
    """One suite's result. `explained` pairs a difference with its reason."""

    suite: str
    direct: Mapping[str, int]
    gate: Mapping[str, int]
    explained: Sequence[tuple[Difference, str]]
    unexplained: Sequence[Difference]
    unsteady: int = 0
    failure: str = ""


def row(
    suite: str,
    direct: Sequence[Outcomes],
    gate: Sequence[Outcomes],
    *,
    exact: bool = False,
    policy: str = "open",
) -> Row:
    """Put a suite's turns together. A test that ends now so, now otherwise on one way is unsteady: where its
    ends overlap with the other way's, it tells nothing of the gate.
    """
    last = differences(direct[-1], gate[-1], exact=exact)
    real, unsteady = [], 0
    for it in last:
        here, there = _ends(it.test, direct, exact), _ends(it.test, gate, exact)
        if here & there:
            unsteady += 1
        else:
            real.append(it)
    known = tomllib.loads(EXPLAINED.read_text())
    reasons = known["open"].get(suite, {}) | (known[policy].get(suite, {}) if policy != "open" else {})
    explained, unexplained = [], []
    for it in real:
        reason = next((why for test, why in reasons.items() if fnmatchcase(it.test, test)), "")
        if reason:
            explained.append((it, reason))
        else:
            unexplained.append(it)
    return Row(suite, counts(direct[-1]), counts(gate[-1]), explained, unexplained, unsteady)


def _ends(test: str, turns: Sequence[Outcomes], exact: bool) -> set[tuple[str, str]]:
    found = (turn.get(test) for turn in turns)
    return {("failed", "") if it is None else (it.status, it.said if exact else "") for it in found}


def markdown(rows: Sequence[Row]) -> str:
    lines = ["| suite | directly | through the gate | differences | explained | unsteady |"]
    lines.append("| --- | --- | --- | --- | --- | --- |")
    for it in rows:
        total = len(it.explained) + len(it.unexplained)
        ways = " | ".join(_count(way) for way in (it.direct, it.gate))
        lines.append(f"| {it.suite} | {ways} | {total} | {len(it.explained)} | {it.unsteady} |")
    for it in rows:
        for difference in it.unexplained:
            said = " ".join((difference.gate.said or difference.direct.said).split())[-300:]
            ends = f"{difference.direct.status} directly, {difference.gate.status} through the gate"
            lines += ["", f"- **{it.suite}** `{difference.test}`: {ends}. {said}"]
    return "\n".join(lines)


def _count(way: Mapping[str, int]) -> str:
    return f"{way.get('passed', 0)} passed, {way.get('failed', 0)} failed, {way.get('skipped', 0)} skipped"


def save(folder: Path, policy: str, it: Row) -> None:
    """Keep a suite's result, beside those of other suites and of runs before."""
    kept = folder / policy
    kept.mkdir(parents=True, exist_ok=True)
    (kept / f"{it.suite}.json").write_text(json.dumps(asdict(it), indent=1) + "\n")


def write_page(folder: Path, suites: Sequence[str], page: Path = PAGE) -> None:
    """Put what is kept in `folder` into the page, each policy's between its marks. Raises ValueError where a
    mark is missing.
    """
    text = page.read_text()
    for policy in POLICIES:
        paths = (folder / policy / f"{name}.json" for name in suites)
        kept = [json.loads(path.read_text()) for path in paths if path.exists()]
        begin, end = f"<!-- {policy}: from the runs -->\n", f"<!-- {policy}: up to here -->"
        before, rest = text.split(begin)
        _, after = rest.split(end)
        text = before + begin + "\n".join(_tables(kept)) + "\n\n" + end + after
    page.write_text(text)


def _tables(kept: Sequence[dict[str, Any]]) -> Iterator[str]:
    yield "\n| suite | pass both ways | fail both ways | skipped both ways | otherwise through the gate |"
    yield "| --- | --- | --- | --- | --- |"
    for it in kept:
        other = [one for one, _ in it["explained"]] + it["unexplained"]
        gone = Counter(one["direct"]["status"] for one in other)
        same = " | ".join(str(it["direct"][end] - gone[end]) for end in (PASSED, FAILED, SKIPPED))
        unsteady = f"; {it['unsteady']} end now so, now so on either way" if it["unsteady"] else ""
        yield f"| {it['suite']} | {same} | {len(other)}{unsteady} |"
    yield "\n| suite | test | directly | through the gate | why |\n| --- | --- | --- | --- | --- |"
    for it in kept:
        for difference, why in it["explained"] + [(one, "not explained") for one in it["unexplained"]]:
            ends = f"{difference['direct']['status']} | {difference['gate']['status']}"
            yield f"| {it['suite']} | `{difference['test']}` | {ends} | {why} |"
