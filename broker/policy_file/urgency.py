"""The meaning of what is urgent in access.yaml: checked, and as values."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo

from broker.config import PagerTarget, Problem, ScheduleSource, SecretRef
from broker.policy_file import apart, marks
from broker.policy_file.marks import Marked
from broker.policy_file.near import near, unknown
from broker.policy_file.urgency_schema import (
    EmergencyShape,
    IncidentsShape,
    PagerShape,
    QuietShape,
    ScheduleShape,
    StepShape,
)
from workflows.policy import Emergency, Ladder, QuietHours, Step, StepKind, spell

if TYPE_CHECKING:
    from broker.policy_file.schema import FileShape, RuleShape

LONGEST_EMERGENCY = timedelta(hours=4)

_WANTED = {
    "pagerduty": ("id", "key"),
    "incident_io": ("id", "key"),
    "rootly": ("id", "key"),
    "opsgenie": ("id", "key"),
    "jsm": ("id", "key", "user", "url"),
    "grafana": ("id", "key", "url"),
    "ical": (),
    "static": ("people",),
}


# ---------------------------------------------------------------- checking


def check(marked: Marked, shape: FileShape, base: Path) -> Iterator[Problem]:
    """Every problem of schedules, emergencies, and of the rules' ladders and extensions."""
    for name, pager in shape.pagers.items():
        yield from _pager(marked, ("pagers", name), pager)
    for name, schedule in shape.schedules.items():
        yield from _schedule(marked, shape, ("schedules", name), schedule, base)
    if shape.incidents and shape.incidents.source == "jira":
        for key in ("user", "url"):
            if not getattr(shape.incidents, key):
                yield marked.problem(("incidents",), f"“{key}” is missing", "jira needs it")
    seen: set[str] = set()
    for index, emergency in enumerate(shape.break_glass):
        path: marks.Path = ("break_glass", index)
        if emergency.name in seen or any(rule.name == emergency.name for rule in shape.rules):
            yield marked.problem((*path, "name"), f"another rule is called “{emergency.name}” already")
        seen.add(emergency.name)
        yield from _emergency(marked, shape, path, emergency)
    for index, rule in enumerate(shape.rules):
        yield from _rule(marked, shape, ("rules", index), rule)
    for key, resource in shape.resources.items():
        for name, role in resource.roles.items():
            here: marks.Path = ("resources", key, "roles", name, "within")
            others = [other for other in resource.roles if other != name]
            yield from unknown(marked, here, role.within, others, f"other role of {key}")


def _schedule(
    marked: Marked, shape: FileShape, path: marks.Path, schedule: ScheduleShape, base: Path
) -> Iterator[Problem]:
    for key in _WANTED[schedule.source]:
        if not getattr(schedule, key):
            yield marked.problem(path, f"“{key}” is missing", f"{schedule.source} needs it")
    yield from unknown(marked, (*path, "people"), schedule.people, shape.people, "person")
    if schedule.pager:
        yield from _pager_known(marked, shape, (*path, "pager"), schedule.pager)
    if (schedule.turn is None) != (schedule.starts is None):
        yield marked.problem(path, "“turn” and “starts” belong together")
    places = [place for place in (schedule.file, schedule.url, schedule.key) if place]
    if schedule.source == "ical" and len(places) != 1:
        what = "a calendar has a “url”, a “file”, or a “key” that holds its secret address"
        yield marked.problem(path, what, "give one of them")
    if schedule.source == "jsm" and "/jsm/ops/api/" not in schedule.url:
        what = "this is not the address of the operations API"
        yield marked.problem((*path, "url"), what, "https://api.atlassian.com/jsm/ops/api/CLOUD-ID")
    if schedule.file and not (base / schedule.file).is_file():
        yield marked.problem((*path, "file"), "there is no such file")


def _pager(marked: Marked, path: marks.Path, pager: PagerShape) -> Iterator[Problem]:
    if pager.via == "incident_io" and "/v2/alert_events/http/" not in pager.url:
        where = (*path, "url") if pager.url else path
        usual = "https://api.incident.io/v2/alert_events/http/SOURCE-ID"
        yield marked.problem(where, "“url” is that of the alert source", usual)
    if pager.via == "grafana" and pager.url:
        what = "the integration's address is secret"
        yield marked.problem((*path, "url"), what, "key: env:NAME that holds it")
    if pager.schedule and pager.via not in ("opsgenie", "jsm"):
        what = f"{pager.via} says itself who is called"
        yield marked.problem((*path, "schedule"), what, "leave it out")


def _pager_known(marked: Marked, shape: FileShape, path: marks.Path, name: str) -> Iterator[Problem]:
    if name not in shape.pagers:
        yield marked.problem(path, f"there is no pager “{name}”", near(name, shape.pagers))


def _emergency(
    marked: Marked, shape: FileShape, path: marks.Path, emergency: EmergencyShape
) -> Iterator[Problem]:
    yield from unknown(marked, (*path, "resources"), emergency.resources, shape.resources, "resource")
    for name in emergency.resources:
        if (resource := shape.resources.get(name)) and emergency.role not in resource.roles:
            what = f"there is no role of {name} “{emergency.role}”"
            yield marked.problem((*path, "role"), what, near(emergency.role, resource.roles))
    for key in ("who", "when_away", "reviewers"):
        yield from unknown(marked, (*path, key), getattr(emergency, key), shape.groups, "group")
    yield from unknown(marked, (*path, "on_call"), emergency.on_call, shape.schedules, "schedule")
    yield from unknown(marked, (*path, "pagers"), emergency.pagers, shape.pagers, "pager")
    if emergency.open_incident and shape.incidents is None:
        what = "nothing says where it is looked up whether an incident is open"
        yield marked.problem((*path, "open_incident"), what, "incidents: {source: incident_io, key: env:…}")
    yield from unknown(marked, (*path, "tells"), emergency.tells, shape.relations, "relation")
    for name in emergency.tells:
        if shape.relations.get(name):
            what = f"{name} follows from groups and names nobody"
            yield marked.problem((*path, "tells"), what, "a relation that is said of each person")
    if not (emergency.who or emergency.on_call or emergency.codes):
        yield marked.problem(path, "nobody can ever use this rule", "say who, on_call or codes: true")
    if emergency.when_away and not emergency.on_call:
        yield marked.problem((*path, "when_away"), "there is no schedule here that could be away")
    if emergency.longest > LONGEST_EMERGENCY:
        what = f"an emergency lasts at most {spell(LONGEST_EMERGENCY)}"
        yield marked.problem((*path, "longest"), what, "usually 15m to 1h")
    if shape.people and set(emergency.reviewers) <= shape.groups.keys():
        able = [
            p for p in shape.people.values()
            if p.active and p.kind == "person" and not set(p.groups).isdisjoint(emergency.reviewers)
        ]  # fmt: skip
        if len(able) < 2:
            what = f"the reviewers are {len(able)} active people; nobody reviews their own"
            yield marked.problem((*path, "reviewers"), what, "two at least")


def _rule(marked: Marked, shape: FileShape, path: marks.Path, rule: RuleShape) -> Iterator[Problem]:
    if rule.longest_total and rule.longest_total < rule.longest:
        yield marked.problem((*path, "longest_total"), f"is shorter than the longest, {spell(rule.longest)}")
    before = timedelta()
    for index, step in enumerate(rule.ladder):
        here: marks.Path = (*path, "ladder", index)
        if step.after < before:
            yield marked.problem((*here, "after"), "a step comes after the one above it")
        if step.after >= rule.lapses_after:
            lapse = spell(rule.lapses_after)
            yield marked.problem((*here, "after"), f"by then the request has lapsed ({lapse})")
        before = step.after
        yield from _step(marked, shape, here, step)


def _step(marked: Marked, shape: FileShape, path: marks.Path, step: StepShape) -> Iterator[Problem]:
    known: Iterable[str] = shape.schedules if step.do == "page" else shape.groups
    what = "schedule" if step.do == "page" else "group"
    if step.do in ("page", "widen") and step.who not in known:
        if not step.who:
            yield marked.problem(path, "“who” is missing", f"{step.do} needs a {what}")
        else:
            yield marked.problem((*path, "who"), f"there is no {what} “{step.who}”", near(step.who, known))


# ------------------------------------------------------------------ values


def ladder(shape: FileShape, rule: RuleShape) -> Ladder:
    quiet = rule.quiet_hours or shape.quiet_hours
    return Ladder(
        steps=tuple(_as_step(step) for step in rule.ladder),
        quiet=_quiet(quiet, shape.timezone) if quiet else None,
        nudge_every=rule.nudge_every,
        claim_holds=rule.claim_holds,
    )


def _as_step(step: StepShape) -> Step:
    wakes = step.do == "page" if step.wakes is None else step.wakes
    return Step(step.after, StepKind(step.do), step.who, wakes)


def _quiet(quiet: QuietShape, zone: str) -> QuietHours:
    return QuietHours(quiet.start, quiet.end, ZoneInfo(quiet.timezone or zone))


def emergency(file: FileShape, shape: EmergencyShape) -> Emergency:
    return Emergency(
        name=shape.name,
        resources=frozenset(shape.resources),
        role=shape.role,
        longest=shape.longest,
        reviewers=tuple(shape.reviewers),
        who=frozenset(shape.who),
        schedules=tuple(shape.on_call),
        level=shape.level,
        when_away=frozenset(shape.when_away),
        codes=shape.codes,
        review_within=shape.review_within,
        cool_down=shape.cool_down,
        most_unreviewed=shape.owed,
        shortest_reason=shape.reason,
        type_name=shape.type_name,
        pagers=tuple(shape.pagers),
        step_up=shape.step_up,
        apart=apart.of_file(file),
        tells=tuple(dict.fromkeys(shape.tells)),
        open_incident=shape.open_incident,
    )


def pager(shape: PagerShape, base: Path) -> PagerTarget:
    return PagerTarget(shape.via, SecretRef(shape.key, base.absolute()), shape.url, shape.schedule)


def incidents(shape: IncidentsShape, base: Path) -> ScheduleSource:
    key = SecretRef(shape.key, base.absolute())
    return ScheduleSource(shape.source, key=key, user=shape.user, url=shape.url)


def schedule(shape: ScheduleShape, base: Path) -> ScheduleSource:
    return ScheduleSource(
        source=shape.source,
        id=shape.id,
        key=SecretRef(shape.key, base.absolute()) if shape.key else None,
        user=shape.user,
        url=shape.url,
        file=base.absolute() / shape.file if shape.file else None,
        people=tuple(shape.people),
        turn=shape.turn,
        starts=shape.starts,
        pager=shape.pager,
    )
