"""Requests that the API server's resolver is asked about: every form of a path, and tricks with each."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

_METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE")
_GROUPS = ("/api/v1", "/apis/apps/v1", "/apis/shop.example/v1beta1")
_RESOURCES = ("pods", "secrets", "namespaces", "status", "nodes", "deployments.apps")
_SUBRESOURCES = (
    "",
    "/log",
    "/exec",
    "/status",
    "/finalize",
    "/proxy",
    "/proxy/a/b",
    "/portforward",
    "/scale",
    "/x/y",
)
_QUERIES = (
    "?watch=1", "?watch=true", "?watch", "?watch=0", "?watch=False", "?watch=no", "?Watch=1",
    "?watch=1&watch=0", "?fieldSelector=metadata.name%3Dweb", "?fieldSelector=metadata.name%3D%3Dweb",
    "?fieldSelector=metadata.name!%3Dweb", "?fieldSelector=spec.nodeName%3Dn,metadata.name%3Dweb",
    "?fieldSelector=metadata.name%3Da%2Fb", "?fieldSelector=metadata.name%3D..", "?w%61tch=1", "?limit=5",
    "?watch=1&fieldSelector=metadata.name%3Dweb", "?fieldSelector=metadata.name%3D",
    "?fieldSelector=metadata.namespace%3Dx", "?watch=+0",
)  # fmt: skip
_TRICKS = (
    "/", "//api/v1/pods", "/api//v1/pods", "/api/v1/../v1/secrets", "/api/v1/%2e%2e/secrets",
    "/api/v1/namespaces/a%2Fb/pods", "/api/v1/watch/pods", "/api/v1/watch/namespaces/p/pods/w",
    "/api/v1/watch", "/api/v1/proxy/nodes/n", "/api", "/apis", "/api/v1", "/apis/apps", "/apis/apps/v1",
    "/version", "/healthz", "/livez/ping", "/metrics", "/logs", "/openapi/v2", "/openapi/v3/apis/apps/v1",
    "/api/v1/", "/api/v1/pods/", "/APIS/apps/v1/deployments", "/api/v1/Pods",
    "/api/v1/namespaces/p/pods/w%65b", "/api/v1/namespaces/p/pods/web%252fexec",
    "/apis/apps/v1/namespaces/p", "/apis/rbac.authorization.k8s.io/v1/clusterroles/system:node",
    "/apis/rbac.authorization.k8s.io/v1/clusterroles/system%3Anode",
    "/api/v1/namespaces/p/services/http:web:80/proxy/x",
    "/apis/custom.metrics.k8s.io/v1beta2/namespaces/p/pods/*/http_requests", "/apis/watch/v1/pods",
    "/apis/apps/watch/deployments", "/api/v1/namespaces/watch/pods", "/api/v1/namespaces/namespaces/pods",
    "/api/watch/pods", "/api/v1/namespaces/proxy", "/api/v1/namespaces/p/namespaces/q",
    "/api/v1/namespaces/p/watch/pods",
)  # fmt: skip


def requests() -> Iterator[tuple[str, str]]:
    """Methods and targets."""
    for method, group, resource in itertools.product(("GET", "POST", "DELETE"), _GROUPS, _RESOURCES):
        for place in (f"{group}/{resource}", f"{group}/namespaces/prod/{resource}"):
            yield method, place
            for sub in _SUBRESOURCES:
                yield method, f"{place}/web{sub}"
    for method, place, query in itertools.product(
        ("GET", "DELETE"),
        ("/api/v1/pods", "/api/v1/namespaces/p/pods", "/api/v1/namespaces/p/pods/w"),
        _QUERIES,
    ):
        yield method, place + query
    for method in _METHODS:
        yield method, "/apis/apps/v1/namespaces/prod/deployments/web"
    for method, trick in itertools.product(("GET", "POST", "DELETE"), _TRICKS):
        yield method, trick
