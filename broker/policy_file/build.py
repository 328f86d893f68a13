"""From the file to a Config: read it, check its shape, then check what its parts mean together."""

from __future__ import annotations

import hashlib
import ssl
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, get_args, get_origin

from pydantic import BaseModel, ValidationError

from broker.config import Config, ConfigError, PostgresTarget, Problem, SecretRef, SlackSettings, Target
from broker.identity.directory import Person, StaticDirectory, with_owners
from broker.policy_file import (
    agents,
    apart,
    cluster_schema,
    guardrails,
    http_schema,
    marks,
    provider_schema,
    ssh_schema,
    urgency,
)
from broker.policy_file.marks import Marked
from broker.policy_file.near import near, unknown
from broker.policy_file.schema import (
    AnyResource,
    DatabaseRoleShape,
    DatabaseShape,
    FileShape,
    MaskShape,
    PersonShape,
    RuleShape,
)
from workflows.model import Group, Mask, Principal, PrincipalKind, Quorum, Resource, Role, Terms
from workflows.policy import Policy, Rule, spell

PLAIN = {
    "missing": "“{key}” is missing",
    "extra_forbidden": "“{key}” is not known here",
    "model_type": "here belongs a mapping (name: value)",
    "dict_type": "here belongs a mapping (name: value)",
    "list_type": "here belongs a list: [a, b]",
    "string_type": "here belongs a text; put it in quotes",
    "bool_parsing": "here belongs true or false",
    "int_parsing": "here belongs a whole number",
    "too_short": "at least one is needed here",
}


def build(path: Path) -> Config:
    """Raises ConfigError with every problem found at this stage of reading."""
    try:
        raw = path.read_bytes()
        text = raw.decode()
    except OSError as error:
        raise ConfigError([Problem(str(path), 1, 1, f"cannot be read: {error.strerror}")]) from error
    except UnicodeDecodeError as error:
        raise ConfigError([Problem(str(path), 1, 1, "is not UTF-8 text")]) from error
    marked = marks.read(str(path), text)
    shape = _shape(marked) if not marked.problems else None
    if shape is None:
        raise ConfigError(_in_order(marked.problems))
    marked.problems.extend(_meaning(marked, shape, path.parent))
    if marked.problems:
        raise ConfigError(_in_order(marked.problems))
    return _config(shape, path.parent, hashlib.sha256(raw).hexdigest())


# ------------------------------------------------------------------- shape


def _shape(marked: Marked) -> FileShape | None:
    try:
        return FileShape.model_validate(marked.data)
    except ValidationError as error:
        marked.problems.extend(_said_plainly(marked, dict(found)) for found in error.errors())
    return None


def _said_plainly(marked: Marked, error: dict[str, Any]) -> Problem:
    whole = tuple(part for part in error["loc"] if part != "[key]")
    loc, kind = _in_file(whole), error["type"]
    if kind in ("union_tag_invalid", "union_tag_not_found"):
        return _no_such_kind(marked, loc, error)
    key = str(loc[-1]) if loc else ""
    what = PLAIN.get(kind, "").format(key=key)
    suggestion = ""
    if kind == "extra_forbidden":
        suggestion = near(key, _fields(whole[:-1]))
    elif kind == "literal_error":
        expected = error["ctx"]["expected"].replace("'", "")
        what, suggestion = f"“{error['input']}” does not fit here", f"one of: {expected}"
    what = what or str(error["msg"]).removeprefix("Value error, ")
    return marked.problem(loc, what, suggestion, key=kind == "extra_forbidden" or "[key]" in error["loc"])


def _in_file(path: tuple[str | int, ...]) -> tuple[str | int, ...]:
    """Where it stands in the file: pydantic names a kind (of a resource, a provider) as a step of its own."""
    return (*path[:2], *path[3:]) if path[:1] in (("resources",), ("providers",)) else path


def _no_such_kind(marked: Marked, path: marks.Path, error: dict[str, Any]) -> Problem:
    if error["type"] == "union_tag_not_found":
        there_are = "oidc or saml" if path[:1] == ("providers",) else "postgres, ssh, http or kubernetes"
        return marked.problem(path, "“kind” is missing", there_are)
    kinds = [name.strip(" '") for name in error["ctx"]["expected_tags"].split(",")]
    tag = error["ctx"]["tag"]
    return marked.problem(
        (*path, "kind"), f"“{tag}” does not fit here", f"one of: {', '.join(kinds[:-1])} or {kinds[-1]}"
    )


def _fields(path: tuple[str | int, ...]) -> list[str]:
    """The keys that the mapping at `path` may have, read off the models."""
    model: Any = FileShape
    for part in path:
        if isinstance(model, type) and issubclass(model, BaseModel):
            field = model.model_fields.get(str(part))
            model = _required(field.annotation) if field else None
        else:
            model = _of_kind(model, part) or _inner(model)
    return list(model.model_fields) if isinstance(model, type) and issubclass(model, BaseModel) else []


def _of_kind(annotation: Any, kind: str | int) -> Any:
    """Of resources of several kinds, the shape of this one."""
    union = get_args(annotation)[0] if hasattr(annotation, "__metadata__") else annotation
    for model in get_args(union):
        if isinstance(model, type) and issubclass(model, BaseModel):
            field = model.model_fields.get("kind")
            if field is not None and kind in get_args(field.annotation):
                return model
    return None


def _required(annotation: Any) -> Any:
    """A mapping that may be left out, as the mapping."""
    models = [one for one in get_args(annotation) if isinstance(one, type) and issubclass(one, BaseModel)]
    return models[0] if get_origin(annotation) is UnionType and models else annotation


def _inner(annotation: Any) -> Any:
    """What a list, a mapping or an optional one of these holds."""
    arguments = [argument for argument in get_args(annotation) if argument is not NoneType]
    if get_origin(annotation) is UnionType:
        return _inner(arguments[0])
    return arguments[-1] if arguments else None


# ----------------------------------------------------------------- meaning


def _meaning(marked: Marked, shape: FileShape, base: Path) -> Iterator[Problem]:
    yield from unknown(marked, ("admins",), shape.admins, shape.groups, "group")
    yield from unknown(marked, ("locks",), shape.locks, shape.groups, "group")
    yield from unknown(marked, ("auditors",), shape.auditors, shape.groups, "group")
    yield from _people(marked, shape)
    yield from _provider_groups(marked, shape)
    yield from _resources(marked, shape, base)
    seen: set[str] = set()
    for index, rule in enumerate(shape.rules):
        if rule.name in seen:
            yield marked.problem(("rules", index, "name"), f"another rule is called “{rule.name}” already")
        seen.add(rule.name)
        yield from _rule(marked, shape, ("rules", index), rule)
    yield from guardrails.check(marked, shape)
    yield from provider_schema.check(marked, shape, base)
    yield from urgency.check(marked, shape, base)
    yield from apart.check(marked, shape)
    yield from agents.check(marked, shape, base)


def _people(marked: Marked, shape: FileShape) -> Iterator[Problem]:
    slack: dict[str, str] = {}
    email: dict[str, str] = {}
    for key, person in shape.people.items():
        path: marks.Path = ("people", key)
        yield from unknown(marked, (*path, "groups"), person.groups, shape.groups, "group")
        for field, value, seen in (
            ("slack", person.slack, slack),
            ("email", person.email.casefold(), email),
        ):
            if value and value in seen:
                yield marked.problem(
                    (*path, field), f"{seen[value]} has this {field} already", "one person, one entry"
                )
            seen.setdefault(value, key)


def _provider_groups(marked: Marked, shape: FileShape) -> Iterator[Problem]:
    """One group of the provider's is one group here."""
    seen: dict[str, str] = {}
    for key, group in shape.groups.items():
        name = group.provider or key
        if name in seen:
            what = f"{seen[name]} is “{name}” at the provider already"
            yield marked.problem(("groups", key, "provider" if group.provider else "title"), what)
        seen.setdefault(name, key)


def _resources(marked: Marked, shape: FileShape, base: Path) -> Iterator[Problem]:
    names = dict.fromkeys(shape.resources, "")
    for key, resource in shape.resources.items():
        path: marks.Path = ("resources", key)
        for index, alias in enumerate(resource.aliases):
            if alias in names:
                yield marked.problem((*path, "aliases", index), f"“{alias}” is taken already")
            names[alias] = key
        if isinstance(resource, ssh_schema.HostShape):
            yield from ssh_schema.check(marked, path, resource)
            continue
        if isinstance(resource, cluster_schema.ClusterShape):
            yield from cluster_schema.check(marked, path, resource, base, key)
            continue
        if isinstance(resource, http_schema.HttpShape):
            yield from http_schema.check(marked, path, resource, key)
        yield from _tls(marked, path, resource, base)


def _tls(
    marked: Marked, path: marks.Path, resource: DatabaseShape | http_schema.HttpShape, base: Path
) -> Iterator[Problem]:
    if resource.ca:
        yield from _certificate(marked, (*path, "ca"), base / resource.ca)
    elif resource.tls == "disable" and not _local(resource.host):
        yield marked.problem(
            (*path, "tls"), f"without TLS, secrets and data travel to {resource.host} in clear",
            "verify-full",
        )  # fmt: skip


def _certificate(marked: Marked, path: marks.Path, file: Path) -> Iterator[Problem]:
    try:
        ssl.create_default_context(cadata=file.read_text())
    except OSError as error:
        yield marked.problem(path, f"cannot be read: {error.strerror or 'not a PEM certificate'}")
    except ValueError:
        yield marked.problem(path, "this file holds no PEM certificate")


def _local(host: str) -> bool:
    return host in ("localhost", "::1") or host.startswith("127.")


def _rule(marked: Marked, shape: FileShape, path: marks.Path, rule: RuleShape) -> Iterator[Problem]:
    yield from unknown(marked, (*path, "who"), rule.who, shape.groups, "group")
    yield from unknown(marked, (*path, "for_others"), rule.for_others, shape.groups, "group")
    yield from unknown(marked, (*path, "resources"), rule.resources, shape.resources, "resource")
    for name in rule.resources:
        if resource := shape.resources.get(name):
            yield from unknown(marked, (*path, "roles"), rule.roles, resource.roles, f"role of {name}")
    if rule.step_up and not rule.approval:
        what = "“step_up” belongs to a rule that somebody decides"
        yield marked.problem((*path, "step_up"), what, "say who does: approval: [{group: …, needed: 1}]")
    if rule.usual and rule.usual > rule.longest:
        yield marked.problem((*path, "usual"), f"is longer than the longest, {spell(rule.longest)}")
    groups: set[str] = set()
    for index, quorum in enumerate(rule.approval):
        here = (*path, "approval", index)
        if quorum.group not in shape.groups:
            what = f"there is no group “{quorum.group}”"
            yield marked.problem((*here, "group"), what, near(quorum.group, shape.groups))
            continue
        if quorum.group in groups:
            yield marked.problem((*here, "group"), f"{quorum.group} is named twice", "raise its `needed`")
        groups.add(quorum.group)
        able = sum(
            quorum.group in p.groups and p.active and p.kind == "person" for p in shape.people.values()
        )
        told = any(quorum.group in it.groups.as_.values() for it in shape.providers.values() if it.groups)
        if shape.people and able < quorum.needed and not told and not shape.provisioned:
            yield marked.problem(
                here, f"{quorum.needed} of {quorum.group} can never agree: it has {able} active people"
            )


# ------------------------------------------------------------------ config


def _config(shape: FileShape, base: Path, digest: str) -> Config:
    policy = Policy(
        groups={name: Group(name, g.title, g.channel, g.mention) for name, g in shape.groups.items()},
        resources={
            name: apart.everywhere(_resource(name, resource), apart.of_file(shape))
            for name, resource in shape.resources.items()
        },
        rules=tuple(_policy_rule(shape, rule) for rule in shape.rules),
        admins=frozenset(shape.admins),
        auditors=frozenset(shape.auditors),
        digest=digest,
        emergencies=tuple(urgency.emergency(shape, emergency) for emergency in shape.break_glass),
        locks=frozenset(shape.locks),
    )
    people = {key: _person(key, person) for key, person in shape.people.items()}
    people |= {key: agents.person(key, agent) for key, agent in shape.agents.items()}
    return Config(
        policy=policy,
        directory=StaticDirectory(
            people if shape.provisioned else with_owners(people), shape.slack.team, shape.timezone
        ),
        targets={name: _target(resource, base) for name, resource in shape.resources.items()},
        slack=SlackSettings(shape.slack.team, shape.slack.match_email, shape.slack.other_email),
        timezone=shape.timezone,
        incidents=urgency.incidents(shape.incidents, base) if shape.incidents else None,
        schedules={name: urgency.schedule(schedule, base) for name, schedule in shape.schedules.items()},
        agents={name: agents.rule(name, agent, base) for name, agent in shape.agents.items()},
        provisioned=shape.provisioned,
        provider_groups={group.provider or name: name for name, group in shape.groups.items()},
        pagers={name: urgency.pager(pager, base) for name, pager in shape.pagers.items()},
        providers={name: provider_schema.value(name, it, base) for name, it in shape.providers.items()},
    )


def _person(key: str, person: PersonShape) -> Person:
    kind = PrincipalKind(person.kind)
    principal = Principal(
        key,
        person.name,
        person.email,
        frozenset(person.groups),
        kind,
        person.active,
        relations=apart.of_person(person),
    )
    return Person(principal, person.slack, person.timezone, person.provider, person.subject)


def _resource(name: str, resource: AnyResource) -> Resource:
    if isinstance(resource, ssh_schema.HostShape):
        return ssh_schema.resource(name, resource)
    if isinstance(resource, http_schema.HttpShape):
        return http_schema.resource(name, resource)
    if isinstance(resource, cluster_schema.ClusterShape):
        return cluster_schema.resource(name, resource)
    roles = tuple(
        Role(
            role_name,
            tuple(role.memberships),
            _terms(resource, role),
            role.title,
            tuple(role.within),
        )
        for role_name, role in resource.roles.items()
    )
    return Resource(name, resource.kind, resource.title, tuple(resource.aliases), roles)


def _terms(resource: DatabaseShape, role: DatabaseRoleShape) -> Terms:
    return Terms(
        masks=_masks(resource.masks, role.masks),
        max_sessions=role.max_sessions,
        guardrails=guardrails.values(role.guardrails, resource.guardrails),
        detect=() if role.detect == [] else tuple(dict.fromkeys((*resource.detect, *(role.detect or ())))),
        trusted_functions=frozenset(resource.trusted_functions),
        hold_commit=guardrails.commit_value(role.hold_commit),
    )


def _masks(of_resource: list[MaskShape], of_role: list[MaskShape] | None) -> tuple[Mask, ...]:
    """The role's masks over the resource's; an empty list of the role takes all of them off."""
    if of_role == []:
        return ()
    chosen = {mask.column: mask.method for mask in (*of_resource, *(of_role or ()))}
    return tuple(
        Mask(table=column.rpartition(".")[0], column=column.rpartition(".")[2], method=method)
        for column, method in chosen.items()
    )


def _target(resource: AnyResource, base: Path) -> Target:
    if isinstance(resource, ssh_schema.HostShape):
        return ssh_schema.target(resource, base)
    if isinstance(resource, http_schema.HttpShape):
        return http_schema.target(resource, base)
    if isinstance(resource, cluster_schema.ClusterShape):
        return cluster_schema.target(resource, base)
    return PostgresTarget(
        host=resource.host,
        port=resource.port,
        database=resource.database,
        tls=resource.tls,
        ca=(base / resource.ca).read_text() if resource.ca else "",
        admin_user=resource.admin.user,
        admin_password=SecretRef(resource.admin.password, base.absolute()),
    )


def _policy_rule(shape: FileShape, rule: RuleShape) -> Rule:
    return Rule(
        name=rule.name,
        who=frozenset(rule.who),
        resources=frozenset(rule.resources),
        roles=tuple(rule.roles),
        longest=rule.longest,
        usual=rule.usual or min(rule.longest, timedelta(hours=1)),
        quorum=apart.everywhere(
            tuple(Quorum(quorum.group, quorum.needed) for quorum in rule.approval),
            apart.of_rule(shape, rule),
        ),
        lapse_after=rule.lapses_after,
        reason_required=rule.reason == "required",
        longest_total=rule.longest_total,
        extend_freely=rule.extend_freely or timedelta(),
        ladder=urgency.ladder(shape, rule),
        for_others=frozenset(rule.for_others),
        step_up=rule.step_up,
        unattended=rule.unattended_agents,
    )


def _in_order(problems: list[Problem]) -> list[Problem]:
    return sorted(problems, key=lambda problem: (problem.line, problem.column))
