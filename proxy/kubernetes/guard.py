"""The decision of a role's guardrails on one request to a Kubernetes API server.

The first guardrail that fits applies. In doubt one that refuses or holds fits, and one that allows does not:
a list of every namespace is about each of them, a list without a name about each name, and the name of what
is created stands in a body that is not read. Where none fits, what is known is allowed, as far as the
cluster's own rules for the role's groups go; what is not known is refused. Discovery is not judged at all.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from fnmatch import translate
from functools import lru_cache

from proxy.kubernetes.request import ApiRequest
from proxy.sql.guardrails import UNREAD_RULE, Allow, Circumstances, Hold, Judgement, Refuse
from workflows import condition
from workflows.model import Action, ApiMatch, ClusterTerms, Guardrail, StatementClass

_ANY = ApiMatch()
CONNECT_RULE = "connect"
"""The name of the rule behind the refusal of a connection into the cluster that the role does not have."""


def judge(
    request: ApiRequest, terms: ClusterTerms, guardrails: Sequence[Guardrail], where: Circumstances
) -> Judgement:
    """What becomes of a request."""
    if request.discovery:
        return Allow()
    if request.verb == "connect" and not _may_connect(request, terms):
        what = f"{request.whole} opens a connection into the cluster, which this role does not have"
        return Refuse(CONNECT_RULE, f"{what} (rule {CONNECT_RULE})")
    rail = next((rail for rail in guardrails if fits(rail, request, where)), None)
    if rail is None:
        return _unknown(request) if request.statement_class is StatementClass.UNKNOWN else Allow()
    if rail.action is Action.ALLOW:
        return Allow()
    if rail.action is Action.HOLD:
        return Hold((rail,))
    said = rail.message or f"“{request.said}” ({request.statement_class.value}) is not allowed here"
    return Refuse(rail.name, f"{said} (guardrail {rail.name})")


def _may_connect(request: ApiRequest, terms: ClusterTerms) -> bool:
    return any(_pattern(pattern).fullmatch(request.whole) for pattern in terms.connect)


def _unknown(request: ApiRequest) -> Refuse:
    what = f"the gate does not know what “{request.said}” may do, and refuses what it does not know"
    return Refuse(UNREAD_RULE, what, "A guardrail that allows this path by name would let it through.")


# ------------------------------------------------------------------- fitting


def fits(rail: Guardrail, request: ApiRequest, where: Circumstances) -> bool:
    """Whether a guardrail applies to a request."""
    strict, match = rail.action is not Action.ALLOW, rail.api or _ANY
    return (
        _class_fits(rail, request, strict)
        and _verb_fits(match, request, strict)
        and (_object_fits(match, request, strict) if request.resource else _path_fits(match, request))
        and _condition_fits(rail, request, where, strict)
    )


def _class_fits(rail: Guardrail, request: ApiRequest, strict: bool) -> bool:
    if rail.classes:
        return request.statement_class in rail.classes
    # Silence about the unknown is no leave for it; naming the path is.
    named = rail.api is not None and bool(rail.api.paths)
    return strict or named or request.statement_class is not StatementClass.UNKNOWN


def _verb_fits(match: ApiMatch, request: ApiRequest, strict: bool) -> bool:
    if not match.verbs or "*" in match.verbs:
        return True
    return not request.verbs.isdisjoint(match.verbs) if strict else request.verbs <= set(match.verbs)


def _path_fits(match: ApiMatch, request: ApiRequest) -> bool:
    """Of a request for no resource."""
    if match.paths:
        return _any(match.paths, request.path)
    return not (match.groups or match.resources or match.namespaces or match.names)


def _object_fits(match: ApiMatch, request: ApiRequest, strict: bool) -> bool:
    if match.paths or (not strict and request.makes_login and request.whole not in match.resources):
        return False
    return (
        (not match.groups or _any(match.groups, request.group))
        and (not match.resources or any(_resource_fits(it, request, strict) for it in match.resources))
        and _namespace_fits(match, request, strict)
        and _name_fits(match, request, strict)
    )


def _resource_fits(pattern: str, request: ApiRequest, strict: bool) -> bool:
    """As RBAC reads it; but a strict guardrail for an object is for all of it, subresources too."""
    if pattern == "*":
        return True
    resource, slash, subresource = pattern.partition("/")
    if not _pattern(resource).fullmatch(request.resource):
        return False
    if not slash:
        return strict or not request.subresource
    return bool(request.subresource) and _pattern(subresource).fullmatch(request.subresource) is not None


def _namespace_fits(match: ApiMatch, request: ApiRequest, strict: bool) -> bool:
    if not match.namespaces:
        return True
    if not request.namespace:
        return strict and request.everywhere
    return _any(match.namespaces, request.namespace)


def _name_fits(match: ApiMatch, request: ApiRequest, strict: bool) -> bool:
    if not match.names:
        return True
    return _any(match.names, request.name) if request.name else strict


def _condition_fits(rail: Guardrail, request: ApiRequest, where: Circumstances, strict: bool) -> bool:
    if not rail.when:
        return True
    answer = condition.holds(rail.when, _facts(request, where))
    return strict if answer is None else answer


def _facts(request: ApiRequest, where: Circumstances) -> dict[str, object]:
    return {
        "statement": {
            "class": request.statement_class.value,
            "classes": [request.statement_class.value],
            "kind": request.verb,
            "kinds": sorted(request.verbs),
            "tables": list(touched(request)),
            "bounded": bool(request.name) if request.verb in ("delete", "deletecollection") else None,
            "opaque": request.verb == "connect",
        },
        "principal": where.principal,
        "resource": where.resource,
        "role": where.role,
    }


def touched(request: ApiRequest) -> tuple[str, ...]:
    """What the request is about, as one text: `prod/deployments.apps/web`."""
    if not request.resource:
        return (request.path,)
    kind = f"{request.resource}.{request.group}" if request.group else request.resource
    namespaced = request.namespace and request.resource != "namespaces"
    return ("/".join(part for part in (request.namespace if namespaced else "", kind, request.name) if part),)


def _any(patterns: Iterable[str], text: str) -> bool:
    return any(_pattern(pattern).fullmatch(text) for pattern in patterns)


@lru_cache(maxsize=1024)
def _pattern(pattern: str) -> re.Pattern[str]:
    return re.compile(translate(pattern), re.S)
