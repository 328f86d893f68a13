"""A request is understood as the API server understands it, or refused."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.kubernetes.request import ApiRequest, Unreadable, understand
from workflows.model import StatementClass

RESOLVED = Path(__file__).with_name("resolved.jsonl")
"""What RequestInfoFactory of k8s.io/apiserver makes of many requests; proof/kubernetes/resolver makes it
anew.
"""


def read(method: str, target: str) -> tuple[str, ...]:
    it = understand(method, target)
    return it.verb, it.group, it.version, it.resource, it.subresource, it.namespace, it.name


@pytest.mark.parametrize(
    ("method", "target", "expected"),
    [
        ("GET", "/api/v1/namespaces/prod/pods", ("list", "", "v1", "pods", "", "prod", "")),
        ("GET", "/api/v1/namespaces/prod/pods?watch=1", ("watch", "", "v1", "pods", "", "prod", "")),
        ("GET", "/api/v1/namespaces/prod/pods?watch", ("watch", "", "v1", "pods", "", "prod", "")),
        ("GET", "/api/v1/namespaces/prod/pods?watch=FALSE", ("list", "", "v1", "pods", "", "prod", "")),
        ("GET", "/api/v1/namespaces/prod/pods?w%61tch=1", ("watch", "", "v1", "pods", "", "prod", "")),
        ("GET", "/api/v1/watch/namespaces/prod/pods", ("watch", "", "v1", "pods", "", "prod", "")),
        ("GET", "/api/v1/namespaces/prod/pods/web", ("get", "", "v1", "pods", "", "prod", "web")),
        ("HEAD", "/api/v1/namespaces/prod/pods/web", ("get", "", "v1", "pods", "", "prod", "web")),
        (
            "GET",
            "/api/v1/namespaces/prod/pods/web/log?follow=1",
            ("get", "", "v1", "pods", "log", "prod", "web"),
        ),
        (
            "GET",
            "/api/v1/namespaces/prod/pods/web/exec",
            ("connect", "", "v1", "pods", "exec", "prod", "web"),
        ),
        (
            "POST",
            "/api/v1/namespaces/prod/pods/web/exec",
            ("connect", "", "v1", "pods", "exec", "prod", "web"),
        ),
        ("GET", "/api/v1/nodes/n1/proxy/logs/", ("connect", "", "v1", "nodes", "proxy", "", "n1")),
        ("DELETE", "/api/v1/namespaces/prod", ("delete", "", "v1", "namespaces", "", "prod", "prod")),
        (
            "PUT",
            "/api/v1/namespaces/prod/finalize",
            ("update", "", "v1", "namespaces", "finalize", "prod", "prod"),
        ),
        ("DELETE", "/api/v1/namespaces/prod/pods", ("deletecollection", "", "v1", "pods", "", "prod", "")),
        (
            "PATCH",
            "/apis/apps/v1/namespaces/prod/deployments/web/scale",
            ("patch", "apps", "v1", "deployments", "scale", "prod", "web"),
        ),
        (
            "GET",
            "/apis/shop.example/v1beta1/orders",
            ("list", "shop.example", "v1beta1", "orders", "", "", ""),
        ),
        (
            "GET",
            "/api/v1/secrets?fieldSelector=metadata.name%3Ddb",
            ("list", "", "v1", "secrets", "", "", "db"),
        ),
        (
            "GET",
            "/apis/custom.metrics.k8s.io/v1beta2/namespaces/prod/pods/*/http_requests",
            ("get", "custom.metrics.k8s.io", "v1beta2", "pods", "http_requests", "prod", "*"),
        ),
        ("GET", "/apis/apps/v1", ("get", "", "", "", "", "", "")),
        ("GET", "/version", ("get", "", "", "", "", "", "")),
        ("POST", "/logs", ("post", "", "", "", "", "", "")),
    ],
)
def test_a_request_is_read_as_verb_group_version_resource_subresource_namespace_and_name(
    method: str, target: str, expected: tuple[str, ...]
) -> None:
    assert read(method, target) == expected


@pytest.mark.parametrize(
    "target",
    [
        "//api/v1/pods",
        "/api//v1/pods",
        "/api/v1/namespaces//pods",
        "/api/v1/namespaces/prod/../kube-system/secrets",
        "/api/v1/namespaces/prod/%2e%2e/kube-system/secrets",
        "/api/v1/namespaces/prod%2fsecrets/pods",
        "/api/v1/namespaces/prod/secrets%2Fdb",
        "/api/v1/namespaces/prod/pods/web%00",
        "/api/v1/namespaces/prod/pods/web%0a",
        "/api/v1/namespaces/prod/pods/w%C3%A9b",
        "/api/v1/namespaces/prod/pods/web%252fexec",
        "/api/v1/namespaces/prod/pods;a=b/web",
        "/api/v1/namespaces/prod/pods\\web",
        "/api/v1/namespaces/prod/pods/web%5cexec",
        "/api/v1/namespaces/prod/Secrets",
        "/api/v1/namespaces/prod/%53ecrets",
        "/api/V1/namespaces/prod/pods",
        "/api/v1/proxy/namespaces/prod/pods/web",
        "/api/v1/watch",
        "/api/v1/namespaces/prod/pods/web/exec/more",
        "/api/v1/namespaces/prod/pods/web/log/../exec",
        "/apis/Apps/v1/namespaces/prod/deployments",
        "/api/v1/pods?watch=0&watch=1",
        "/api/v1/pods?watch=0;watch=1",
        "/api/v1/pods?labelSelector=%zz",
        "/api/v1/pods?labelSelector=%ff",
        "/api/v1/pods#/secrets",
        "http://other/api/v1/pods",
        "*",
        "",
    ],
)
def test_what_could_be_read_in_two_ways_is_refused(target: str) -> None:
    with pytest.raises(Unreadable):
        understand("GET", target)


@pytest.mark.parametrize("method", ["OPTIONS", "CONNECT", "TRACE", "get", "PROPFIND"])
def test_a_method_that_the_api_has_not_is_refused(method: str) -> None:
    with pytest.raises(Unreadable):
        understand(method, "/api/v1/pods")


def test_a_watch_is_only_a_get() -> None:
    with pytest.raises(Unreadable):
        understand("DELETE", "/api/v1/watch/namespaces/prod/pods/web")


@pytest.mark.parametrize(
    ("target", "goes_on"),
    [
        ("/api/v1/pods/", "/api/v1/pods"),
        ("/apis/", "/apis"),
        ("/", "/"),
        ("/api/v1/namespaces/prod/pods/w%65b", "/api/v1/namespaces/prod/pods/web"),
        (
            "/apis/rbac.authorization.k8s.io/v1/clusterroles/system%3Anode",
            "/apis/rbac.authorization.k8s.io/v1/clusterroles/system:node",
        ),
        ("/api/v1/pods?", "/api/v1/pods"),
        ("/api/v1/pods?watch", "/api/v1/pods?watch="),
        ("/api/v1/pods?labelSelector=a+in+(b)", "/api/v1/pods?labelSelector=a%20in%20%28b%29"),
        ("/api/v1/namespaces/p/services/s/proxy/", "/api/v1/namespaces/p/services/s/proxy/"),
        (
            "/api/v1/namespaces/p/pods/w/exec?command=ls&command=-l",
            "/api/v1/namespaces/p/pods/w/exec?command=ls&command=-l",
        ),
    ],
)
def test_what_goes_on_is_written_anew_from_what_was_understood(target: str, goes_on: str) -> None:
    assert understand("GET", target).target == goes_on


segment = st.text(st.sampled_from("abz09.-_~:%/?&=;\\A#+é\0 "), max_size=8)
somewhere = st.builds(
    lambda start, parts, query: "/".join([start, *parts]) + query,
    st.sampled_from(["/api/v1", "/apis/apps/v1", "/api", "/apis", "/version", "", "/api/v1/namespaces/p"]),
    st.lists(
        st.one_of(segment, st.sampled_from(["pods", "secrets", "namespaces", "exec", "proxy", "watch", "x"]))
    ),
    st.one_of(
        st.just(""), st.builds("?{}={}".format, st.sampled_from(["watch", "w", "fieldSelector"]), segment)
    ),
)


@given(st.sampled_from(["GET", "POST", "PUT", "PATCH", "DELETE", "HEAD"]), somewhere)
def test_what_goes_on_means_the_same_as_what_came(method: str, target: str) -> None:
    try:
        first = understand(method, target)
    except Unreadable:
        return
    again = understand(method, first.target)
    assert again == first
    assert first.target.isascii()
    assert not {".", "..", ""} & set(first.path.rstrip("/").split("/")[1:])


def resolved() -> list[dict[str, str]]:
    return [json.loads(line) for line in RESOLVED.read_text().splitlines()]


def test_every_request_is_read_as_the_servers_own_resolver_reads_it() -> None:
    compared = 0
    for row in resolved():
        try:
            it = understand(row["method"], row["target"])
        except Unreadable:
            continue
        assert not row["error"], row
        compared += 1
        assert bool(it.resource) == row["resource_request"], row
        if it.resource:
            mine = (it.group, it.version, it.namespace, it.resource, it.subresource, it.name)
            assert mine == tuple(
                row[key] for key in ("group", "version", "namespace", "resource", "subresource", "name")
            ), row
        connects = it.verb == "connect"
        assert connects or it.verb == row["verb"], row
    assert compared > 500


@pytest.mark.parametrize(
    ("method", "target", "expected"),
    [
        ("GET", "/api/v1/pods", StatementClass.READ),
        ("GET", "/healthz", StatementClass.READ),
        ("GET", "/logs/kube-apiserver.log", StatementClass.UNKNOWN),
        ("POST", "/healthz", StatementClass.UNKNOWN),
        ("GET", "/debug/pprof/heap", StatementClass.UNKNOWN),
        ("POST", "/api/v1/namespaces/p/pods", StatementClass.WRITE),
        ("DELETE", "/api/v1/namespaces/p/pods", StatementClass.DESTRUCTIVE),
        ("GET", "/api/v1/namespaces/p/pods/w/exec", StatementClass.ADMIN),
        ("POST", "/api/v1/namespaces/p/serviceaccounts/s/token", StatementClass.ADMIN),
        ("PATCH", "/apis/rbac.authorization.k8s.io/v1/clusterroles/r", StatementClass.ADMIN),
        ("GET", "/apis/rbac.authorization.k8s.io/v1/clusterroles/r", StatementClass.READ),
    ],
)
def test_a_request_has_the_class_of_what_it_can_do_at_worst(
    method: str, target: str, expected: StatementClass
) -> None:
    assert understand(method, target).statement_class is expected


def test_only_questions_about_the_api_itself_are_discovery() -> None:
    yes = [
        "/api",
        "/apis",
        "/api/v1",
        "/apis/apps",
        "/apis/apps/v1",
        "/version",
        "/openapi/v2",
        "/openapi/v3/api/v1",
    ]
    no = ["/api/v1/pods", "/healthz", "/logs", "/openapi/v4", "/apis/apps/v1/deployments"]
    assert all(understand("GET", target).discovery for target in yes)
    assert not any(understand("GET", target).discovery for target in no)
    assert not understand("POST", "/apis").discovery


def said(method: str, target: str) -> str:
    it: ApiRequest = understand(method, target)
    return it.said


def test_a_request_is_said_in_a_few_words() -> None:
    assert said("DELETE", "/api/v1/namespaces/prod") == "delete namespaces prod"
    assert (
        said("PATCH", "/apis/apps/v1/namespaces/prod/deployments/web") == "patch deployments.apps web in prod"
    )
    assert said("GET", "/apis/apps/v1/namespaces/prod/deployments/web/scale") == (
        "get deployments.apps/scale web in prod"
    )
    assert said("GET", "/api/v1/namespaces/prod/pods/web/exec") == "connect pods/exec web in prod"


@pytest.mark.parametrize(
    ("target", "rehearsed"),
    [
        ("/apis/apps/v1/namespaces/p/deployments/web", True),
        ("/apis/apps/v1/namespaces/p/deployments/web/scale", True),
        ("/api/v1/namespaces/p/secrets/db", True),
        ("/api/v1/namespaces/p/serviceaccounts/s/token", False),
        ("/api/v1/namespaces/p/pods/web/eviction", False),
        ("/apis/shop.example/v1/namespaces/p/orders/1", False),
        ("/apis/metrics.k8s.io/v1beta1/namespaces/p/pods/web", False),
    ],
)
def test_only_what_the_api_server_itself_serves_is_rehearsed(target: str, rehearsed: bool) -> None:
    assert understand("PATCH", target).rehearsed is rehearsed
