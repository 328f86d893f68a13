"""What a request asks of a Kubernetes API server, read from its method and target alone.

The reading follows the server's own (RequestInfo in k8s.io/apiserver, pkg/endpoints/request): prefix, group,
version, namespace, resource, name, subresource, and a verb that the query takes part in. It is narrower:
whatever two readers could take for two things is refused. What goes on to the server is written anew from
what was understood, so that nothing else can be meant by it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from urllib.parse import quote, unquote_to_bytes

from workflows.model import StatementClass

_VERBS = {
    "GET": "get",
    "HEAD": "get",
    "POST": "create",
    "PUT": "update",
    "PATCH": "patch",
    "DELETE": "delete",
}
_CONNECTS = {
    ("", "pods", "exec"),
    ("", "pods", "attach"),
    ("", "pods", "portforward"),
    ("", "pods", "proxy"),
    ("", "services", "proxy"),
    ("", "nodes", "proxy"),
}
_WITH_A_REST = ("proxy", "portforward")
"""Subresources behind whose name a path of somebody else's may follow."""
_OF_NAMESPACES = ("status", "finalize")
_ENDS = {("", "pods/eviction"), ("policy", "pods/eviction"), ("", "namespaces/finalize")}
"""Subresources by which an object is ended, whatever the verb says."""
_OF_NO_NAMESPACE = {
    ("", "nodes"),
    ("", "persistentvolumes"),
    ("", "componentstatuses"),
    ("apiextensions.k8s.io", "customresourcedefinitions"),
    ("apiregistration.k8s.io", "apiservices"),
    ("certificates.k8s.io", "certificatesigningrequests"),
    ("rbac.authorization.k8s.io", "clusterroles"),
    ("rbac.authorization.k8s.io", "clusterrolebindings"),
    ("scheduling.k8s.io", "priorityclasses"),
    ("storage.k8s.io", "storageclasses"),
}
"""Kinds of objects that are in no namespace for certain; of others a list without one is a list of all."""
_BUILT_IN = {
    "",
    "admissionregistration.k8s.io",
    "apiextensions.k8s.io",
    "apiregistration.k8s.io",
    "apps",
    "autoscaling",
    "batch",
    "certificates.k8s.io",
    "coordination.k8s.io",
    "discovery.k8s.io",
    "networking.k8s.io",
    "node.k8s.io",
    "policy",
    "rbac.authorization.k8s.io",
    "scheduling.k8s.io",
    "storage.k8s.io",
}
"""Groups that the API server itself serves."""
_REHEARSED = ("", "scale", "status", "ephemeralcontainers", "resize")
_APPLY = "application/apply-patch"
_REPEATED = ("command",)
"""Parameters that may stand more than once."""

_SEGMENT = re.compile(r"(?:[A-Za-z0-9._~:@!$&'()*+,=-]|%[0-9A-Fa-f]{2})+")
_PLAIN = re.compile(r"[A-Za-z0-9._~:@!$&'()*+,= -]+")
_SAFE = "._~:@!$&'()*+,=-"
_GROUP = re.compile(r"[a-z0-9]([a-z0-9.-]*[a-z0-9])?")
_VERSION = re.compile(r"v[0-9]+((alpha|beta)[0-9]+)?")
_RESOURCE = re.compile(r"[a-z0-9]([a-z0-9.-]*[a-z0-9])?")
_SUBRESOURCE = re.compile(r"[A-Za-z0-9]([A-Za-z0-9._:-]*[A-Za-z0-9])?")
_QUERY = re.compile(r"[\x21\x24-\x3a\x3c-\x7e]*")
"""What a query may be made of: no control characters, no " and # (nobody sends them), no ; (a separator to
some).
"""

_DISCOVERY = re.compile(r"/(api|apis|version|openapi/v2|openapi/v3(/.*)?|api/[^/]+|apis/[^/]+(/[^/]+)?)")
_HEALTH = re.compile(r"/(healthz|livez|readyz)(/.*)?|/metrics(/.*)?|/")


class Unreadable(ValueError):
    """The request cannot be understood for certain. The text says why, for people."""


@dataclass(frozen=True, slots=True)
class ApiRequest:
    """One request. `path` and `query` are as they go to the server. `verb` is the server's, except that what
    opens a connection into the cluster is connect, by whichever method it comes. Of a request for no resource
    (`resource` is empty) the verb is the method in lower case. `rest` is what follows a proxy's name.
    `applies` tells that a patch is a server-side apply.
    """

    method: str
    path: str
    query: str
    verb: str
    group: str = ""
    version: str = ""
    resource: str = ""
    subresource: str = ""
    namespace: str = ""
    name: str = ""
    rest: str = ""
    parameters: tuple[tuple[str, str], ...] = ()
    applies: bool = False

    @property
    def verbs(self) -> frozenset[str]:
        """Every verb that it may come to: an eviction deletes, an apply creates what is not there."""
        also = {self.verb}
        if self.verb == "deletecollection" or (self.group, self.whole) in _ENDS:
            also.add("delete")
        if self.applies:
            also.add("create")
        return frozenset(also)

    @property
    def target(self) -> str:
        return f"{self.path}?{self.query}" if self.query else self.path

    @property
    def whole(self) -> str:
        """Resource and subresource as RBAC writes them: `pods/exec`."""
        return f"{self.resource}/{self.subresource}" if self.subresource else self.resource

    @property
    def discovery(self) -> bool:
        """Whether it only asks what the server's API is. Clients do so first; no object is in it."""
        return not self.resource and self.verb == "get" and _DISCOVERY.fullmatch(self.path) is not None

    @property
    def secret(self) -> bool:
        """Whether the answer may hold a Secret's data."""
        return self.group == "" and self.resource == "secrets"

    def parameter(self, name: str) -> str:
        """The value of a parameter; empty where there is none."""
        return next((value for key, value in self.parameters if key == name), "")

    def flag(self, name: str) -> bool:
        """As the server reads a flag: whatever is not 0 or false is true."""
        return any(key == name and value.lower() not in ("0", "false") for key, value in self.parameters)

    def commands(self) -> tuple[str, ...]:
        """The words of the command of an exec."""
        return tuple(value for key, value in self.parameters if key == "command")

    @property
    def said(self) -> str:
        """The request in a few words."""
        if not self.resource:
            return f"{self.verb} {self.path}"
        what = f"{self.whole}.{self.group}" if self.group else self.whole
        if self.subresource and self.group:
            what = f"{self.resource}.{self.group}/{self.subresource}"
        named = f" {self.name}" if self.name else ""
        of_namespace = self.resource == "namespaces" or not self.namespace
        return f"{self.verb} {what}{named}" + ("" if of_namespace else f" in {self.namespace}")

    @property
    def everywhere(self) -> bool:
        """Whether it may be about objects of every namespace."""
        if self.namespace or self.name or (self.group, self.resource) in _OF_NO_NAMESPACE:
            return False
        return bool(self.resource)

    @property
    def statement_class(self) -> StatementClass:
        """What it can do, at worst."""
        if not self.resource:
            known = self.verb == "get" and (self.discovery or _HEALTH.fullmatch(self.path) is not None)
            return StatementClass.READ if known else StatementClass.UNKNOWN
        if self.verb == "connect" or self._rights:
            return StatementClass.ADMIN
        if self.verb == "create" and not self.name and (self.group, self.resource) in _QUESTIONS:
            return StatementClass.READ
        return _CLASSES[self.verb]

    @property
    def rehearsed(self) -> bool:
        """Whether the API server is known to heed dryRun here. What an aggregated server, or a subresource
        that makes something, does with it nobody can tell from the path.
        """
        return self.group in _BUILT_IN and self.subresource in _REHEARSED

    @property
    def makes_login(self) -> bool:
        """Whether it makes a credential that works without the gate."""
        return self.verb not in ("get", "list", "watch") and (self.group, self.whole) in _LOGINS

    @property
    def _rights(self) -> bool:
        """Whether it changes who may do what, or makes a credential."""
        if self.verb in ("get", "list", "watch"):
            return False
        return self.group in _RIGHTS_GROUPS or (self.group, self.whole) in _CREDENTIALS


_CLASSES = {
    "get": StatementClass.READ,
    "list": StatementClass.READ,
    "watch": StatementClass.READ,
    "create": StatementClass.WRITE,
    "update": StatementClass.WRITE,
    "patch": StatementClass.WRITE,
    "delete": StatementClass.DESTRUCTIVE,
    "deletecollection": StatementClass.DESTRUCTIVE,
}
_RIGHTS_GROUPS = (
    "rbac.authorization.k8s.io",
    "certificates.k8s.io",
    "admissionregistration.k8s.io",
    "apiregistration.k8s.io",
)
_QUESTIONS = {
    ("authorization.k8s.io", "selfsubjectaccessreviews"),
    ("authorization.k8s.io", "selfsubjectrulesreviews"),
    ("authentication.k8s.io", "selfsubjectreviews"),
}
"""What is asked by a create, about oneself, and is kept nowhere."""
_CREDENTIALS = {("", "serviceaccounts/token"), ("", "serviceaccounts")}
_LOGINS = {
    ("", "serviceaccounts/token"),
    ("certificates.k8s.io", "certificatesigningrequests"),
    ("certificates.k8s.io", "certificatesigningrequests/approval"),
}


def understand(method: str, target: str, content_type: str = "") -> ApiRequest:
    """Raises Unreadable for whatever has no one meaning."""
    raw_path, question, raw_query = target.partition("?")
    segments, path = _path(raw_path)
    parameters, query = _query(raw_query) if question else ((), "")
    if not _of_resource(segments):
        return ApiRequest(method, path, query, method.lower(), parameters=parameters)
    if method not in _VERBS:
        raise Unreadable(f"{method} is no method of the Kubernetes API")
    group = segments[1] if segments[0] == "apis" else ""
    version, *parts = segments[2:] if segments[0] == "apis" else segments[1:]
    if (group and not _GROUP.fullmatch(group)) or not _VERSION.fullmatch(version):
        raise Unreadable("the path has no API group and version where they belong")
    verb, parts = _special(method, parts)
    namespace, parts = _namespaced(parts)
    resource, name, subresource, rest = _parts(parts)
    if (group, resource, subresource) in _CONNECTS:
        verb = "connect"
    elif not name and verb == "get":
        verb = "list"
        name = _selected(parameters)
    elif not name and verb == "delete":
        verb = "deletecollection"
    applies = verb == "patch" and content_type.strip().lower().startswith(_APPLY)
    found = ApiRequest(
        method, path, query, verb, group, version, resource, subresource, namespace, name, rest, parameters,
        applies,
    )  # fmt: skip
    return replace(found, verb="watch") if verb == "list" and found.flag("watch") else found


# ------------------------------------------------------------------ the path


def _path(raw: str) -> tuple[list[str], str]:
    """The decoded segments, and the path written anew."""
    if not raw.startswith("/"):
        raise Unreadable("the target is no path")
    proxied = "/proxy/" in raw
    body = raw[1:]
    trailing = body.endswith("/")
    segments = [_segment(part) for part in (body[:-1] if trailing else body).split("/")] if body else []
    path = "/" + "/".join(quote(segment, safe=_SAFE) for segment in segments)
    return segments, f"{path}/" if trailing and proxied else path


def _segment(raw: str) -> str:
    if not raw:
        raise Unreadable("the path has an empty part (//)")
    if not _SEGMENT.fullmatch(raw):
        raise Unreadable("the path has characters that do not belong there")
    text = unquote_to_bytes(raw).decode("latin-1")
    if not _PLAIN.fullmatch(text):
        raise Unreadable("the path hides a character behind an encoding (%)")
    if text in (".", ".."):
        raise Unreadable("the path goes up or stays (. or ..)")
    return text


def _of_resource(segments: list[str]) -> bool:
    """Whether the server takes it for a request about a resource."""
    least = {"api": 3, "apis": 4}
    return bool(segments) and len(segments) >= least.get(segments[0], len(segments) + 1)


def _special(method: str, parts: list[str]) -> tuple[str, list[str]]:
    """The verb, and the parts behind a verb in the path."""
    if parts[0] == "watch":
        if method not in ("GET", "HEAD") or len(parts) < 2:
            raise Unreadable("a watch is a GET of something")
        return "watch", parts[1:]
    if parts[0] == "proxy":
        raise Unreadable("paths that begin with proxy are no longer part of the Kubernetes API")
    return _VERBS[method], parts


def _namespaced(parts: list[str]) -> tuple[str, list[str]]:
    """The namespace, and the parts from the resource on."""
    if parts[0] != "namespaces" or len(parts) == 1:
        return "", parts
    if len(parts) > 2 and parts[2] not in _OF_NAMESPACES:
        return parts[1], parts[2:]
    return parts[1], parts


def _parts(parts: list[str]) -> tuple[str, str, str, str]:
    """Resource, name, subresource and what follows it."""
    resource, name, subresource, *rest = (*parts, "", "")[:3] if len(parts) < 3 else tuple(parts)
    if not _RESOURCE.fullmatch(resource):
        raise Unreadable(f"“{resource}” is no name of a resource")
    if subresource and not _SUBRESOURCE.fullmatch(subresource):
        raise Unreadable(f"“{subresource}” is no name of a subresource")
    if rest and subresource not in _WITH_A_REST:
        raise Unreadable("the path goes on behind its subresource")
    return resource, name, subresource, "/".join(rest)


# ----------------------------------------------------------------- the query


def _query(raw: str) -> tuple[tuple[tuple[str, str], ...], str]:
    """The parameters in order, and the query written anew."""
    if not _QUERY.fullmatch(raw):
        raise Unreadable("the query has characters that do not belong there")
    parameters = tuple(_parameter(pair) for pair in raw.split("&") if pair)
    names = [name for name, _ in parameters]
    for name in names:
        if names.count(name) > 1 and name not in _REPEATED:
            raise Unreadable(f"the parameter {name} stands twice")
    query = "&".join(f"{quote(name, safe='')}={quote(value, safe='')}" for name, value in parameters)
    return parameters, query


def _parameter(pair: str) -> tuple[str, str]:
    name, _, value = pair.partition("=")
    return _decoded(name), _decoded(value)


def _decoded(raw: str) -> str:
    if re.search(r"%(?![0-9A-Fa-f]{2})", raw):
        raise Unreadable("the query has a broken encoding (%)")
    try:
        return unquote_to_bytes(raw.replace("+", " ")).decode()
    except UnicodeDecodeError as error:
        raise Unreadable("the query is not UTF-8") from error


def _selected(parameters: tuple[tuple[str, str], ...]) -> str:
    """The one name that a field selector leaves, which the server takes for the request's."""
    selector = next((value for key, value in parameters if key == "fieldSelector"), "")
    if "\\" in selector:
        return ""
    for term in selector.split(","):
        field, equals, value = term.partition("=")
        if field.strip() == "metadata.name" and equals:
            name = value.removeprefix("=").strip()
            return name if _PLAIN.fullmatch(name) and name not in (".", "..") else ""
    return ""
