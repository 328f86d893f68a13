"""Guardrails on requests to a cluster: in doubt what refuses or holds fits, and what allows does not."""

from __future__ import annotations

import pytest

from broker.policy_file.cluster_schema import OWN_LOGIN
from proxy.kubernetes.guard import judge, touched
from proxy.kubernetes.request import understand
from proxy.sql.guardrails import Allow, Circumstances, Hold, Refuse
from workflows.model import Action, ApiMatch, ClusterTerms, Guardrail, Quorum, StatementClass

EVERYTHING = ClusterTerms(("edit",), connect=("*",))
ADA = Circumstances("ada", "prod-cluster", "edit")


def refuse(**match: tuple[str, ...]) -> Guardrail:
    return Guardrail("no", Action.REFUSE, api=ApiMatch(**match))


def allow(**match: tuple[str, ...]) -> Guardrail:
    return Guardrail("yes", Action.ALLOW, api=ApiMatch(**match))


def decided(
    method: str, target: str, *rails: Guardrail, terms: ClusterTerms = EVERYTHING, body: str = ""
) -> str:
    return type(judge(understand(method, target, body), terms, rails, ADA)).__name__


@pytest.mark.parametrize(
    ("rail", "method", "target", "expected"),
    [
        # verbs
        (refuse(verbs=("delete",)), "DELETE", "/api/v1/namespaces/prod", "Refuse"),
        (refuse(verbs=("delete",)), "DELETE", "/api/v1/namespaces/prod/pods", "Refuse"),
        (refuse(verbs=("delete",)), "POST", "/api/v1/namespaces/prod/pods/web/eviction", "Refuse"),
        (refuse(verbs=("delete",)), "PUT", "/api/v1/namespaces/prod/finalize", "Refuse"),
        (refuse(verbs=("delete",)), "GET", "/api/v1/namespaces/prod", "Allow"),
        (refuse(verbs=("connect",)), "GET", "/api/v1/namespaces/p/pods/w/exec", "Refuse"),
        (refuse(verbs=("connect",)), "POST", "/api/v1/namespaces/p/pods/w/exec", "Refuse"),
        # resources: what refuses an object refuses all of it
        (refuse(resources=("secrets",)), "GET", "/api/v1/secrets", "Refuse"),
        (refuse(resources=("secrets",)), "GET", "/api/v1/watch/secrets", "Refuse"),
        (refuse(resources=("pods",)), "GET", "/api/v1/namespaces/p/pods/w/log", "Refuse"),
        (refuse(resources=("pods",)), "PATCH", "/api/v1/namespaces/p/pods/w/ephemeralcontainers", "Refuse"),
        (
            refuse(resources=("deployments",)),
            "PATCH",
            "/apis/apps/v1/namespaces/p/deployments/w/scale",
            "Refuse",
        ),
        (refuse(resources=("*/scale",)), "PATCH", "/apis/apps/v1/namespaces/p/deployments/w/scale", "Refuse"),
        (refuse(resources=("*/scale",)), "PATCH", "/apis/apps/v1/namespaces/p/deployments/w", "Allow"),
        (refuse(resources=("pods/exec",)), "GET", "/api/v1/namespaces/p/pods/w", "Allow"),
        # groups: an older or aggregated one is another way to the same
        (
            refuse(resources=("deployments",)),
            "DELETE",
            "/apis/extensions/v1beta1/namespaces/p/deployments/w",
            "Refuse",
        ),
        (
            refuse(groups=("apps",), resources=("deployments",)),
            "DELETE",
            "/apis/shop.example/v1/namespaces/p/deployments/w",
            "Allow",
        ),
        (refuse(groups=("*.example",)), "GET", "/apis/shop.example/v1/orders", "Refuse"),
        (refuse(groups=("",)), "GET", "/api/v1/pods", "Refuse"),
        (refuse(groups=("",)), "GET", "/apis/apps/v1/deployments", "Allow"),
        # namespaces: a list of all is a list of each
        (refuse(namespaces=("kube-*",)), "GET", "/api/v1/namespaces/kube-system/pods", "Refuse"),
        (refuse(namespaces=("kube-*",)), "GET", "/api/v1/pods", "Refuse"),
        (refuse(namespaces=("kube-*",)), "GET", "/api/v1/nodes", "Allow"),
        (refuse(namespaces=("kube-*",)), "GET", "/api/v1/namespaces/prod/pods", "Allow"),
        (refuse(namespaces=("prod",), verbs=("delete",)), "DELETE", "/api/v1/namespaces/prod", "Refuse"),
        # names: what has none is about each
        (refuse(names=("db",), resources=("secrets",)), "GET", "/api/v1/namespaces/p/secrets/db", "Refuse"),
        (refuse(names=("db",), resources=("secrets",)), "GET", "/api/v1/namespaces/p/secrets", "Refuse"),
        (refuse(names=("db",), resources=("secrets",)), "POST", "/api/v1/namespaces/p/secrets", "Refuse"),
        (refuse(names=("db",), resources=("secrets",)), "GET", "/api/v1/namespaces/p/secrets/web", "Allow"),
        (
            refuse(names=("db",), resources=("secrets",)),
            "GET",
            "/api/v1/namespaces/p/secrets?fieldSelector=metadata.name%3Dweb",
            "Allow",
        ),
        # paths are for no resource, everything else for one
        (refuse(paths=("/metrics",)), "GET", "/metrics", "Refuse"),
        (refuse(paths=("*",)), "GET", "/api/v1/pods", "Allow"),
        (refuse(resources=("*",)), "GET", "/metrics", "Allow"),
        (refuse(), "GET", "/metrics", "Refuse"),
    ],
)
def test_what_refuses_fits_in_doubt(rail: Guardrail, method: str, target: str, expected: str) -> None:
    assert decided(method, target, rail) == expected


@pytest.mark.parametrize(
    ("rail", "method", "target", "expected"),
    [
        (allow(verbs=("get", "list")), "GET", "/api/v1/pods", "Allow"),
        (allow(verbs=("delete",)), "POST", "/api/v1/namespaces/p/pods/w/eviction", "Refuse"),
        (allow(resources=("pods",)), "GET", "/api/v1/namespaces/p/pods/w/log", "Refuse"),
        (allow(resources=("pods", "pods/log")), "GET", "/api/v1/namespaces/p/pods/w/log", "Allow"),
        (allow(resources=("pods/*",)), "GET", "/api/v1/namespaces/p/pods/w/log", "Allow"),
        (allow(namespaces=("prod",)), "GET", "/api/v1/namespaces/prod/pods", "Allow"),
        (allow(namespaces=("prod",)), "GET", "/api/v1/pods", "Refuse"),
        (allow(namespaces=("prod",)), "GET", "/api/v1/nodes", "Refuse"),
        (allow(names=("web",)), "GET", "/api/v1/namespaces/p/pods/web", "Allow"),
        (allow(names=("web",)), "GET", "/api/v1/namespaces/p/pods", "Refuse"),
        (allow(names=("web",)), "POST", "/api/v1/namespaces/p/pods", "Refuse"),
        (allow(verbs=("patch",)), "PATCH", "/api/v1/namespaces/p/pods/web", "Allow"),
        (allow(paths=("/logs/*",)), "GET", "/logs/audit.log", "Allow"),
        (allow(), "GET", "/logs/audit.log", "Refuse"),
        (allow(resources=("*",)), "POST", "/api/v1/namespaces/p/serviceaccounts/s/token", "Refuse"),
        (
            allow(resources=("serviceaccounts/token",)),
            "POST",
            "/api/v1/namespaces/p/serviceaccounts/s/token",
            "Allow",
        ),
    ],
)
def test_what_allows_fits_only_for_certain(rail: Guardrail, method: str, target: str, expected: str) -> None:
    assert decided(method, target, rail, Guardrail("rest", Action.REFUSE)) == expected


def test_an_apply_counts_as_a_create_too() -> None:
    target, rail = "/api/v1/namespaces/p/pods/web?fieldManager=me", refuse(verbs=("create",))
    assert decided("PATCH", target, rail, body="application/apply-patch+yaml") == "Refuse"
    assert decided("PATCH", target, rail, body=" Application/Apply-Patch+cbor") == "Refuse"
    assert decided("PATCH", target, rail, body="application/merge-patch+json") == "Allow"


def test_a_way_into_the_cluster_is_closed_unless_the_role_opens_it() -> None:
    exec_in, forward = "/api/v1/namespaces/p/pods/w/exec", "/api/v1/namespaces/p/pods/w/portforward"
    none, execs = ClusterTerms(("edit",)), ClusterTerms(("edit",), connect=("pods/exec", "pods/attach"))
    assert decided("GET", exec_in, terms=none) == "Refuse"
    assert decided("GET", exec_in, allow(resources=("*",)), terms=none) == "Refuse"
    assert decided("GET", exec_in, terms=execs) == "Allow"
    assert decided("GET", forward, terms=execs) == "Refuse"
    assert decided("GET", "/api/v1/nodes/n/proxy/exec", terms=execs) == "Refuse"


def test_discovery_passes_whatever_the_guardrails_say() -> None:
    assert decided("GET", "/apis/apps/v1", Guardrail("nothing", Action.REFUSE)) == "Allow"


def test_what_nobody_knows_is_refused_where_no_guardrail_names_it() -> None:
    assert decided("GET", "/debug/pprof/heap") == "Refuse"


def test_a_guardrail_that_holds_asks_its_quorum() -> None:
    rail = Guardrail(
        "patches", Action.HOLD, quorum=(Quorum("sre"),), api=ApiMatch(("patch",), resources=("deployments",))
    )
    found = judge(understand("PATCH", "/apis/apps/v1/namespaces/p/deployments/w"), EVERYTHING, [rail], ADA)
    assert isinstance(found, Hold)
    assert found.rule == "patches"
    assert found.quorum == (Quorum("sre"),)


def test_the_first_guardrail_that_fits_counts() -> None:
    rails = (allow(namespaces=("dev",)), refuse(verbs=("delete",)))
    assert decided("DELETE", "/api/v1/namespaces/dev/pods/web", *rails) == "Allow"
    assert decided("DELETE", "/api/v1/namespaces/prod/pods/web", *rails) == "Refuse"


def test_classes_and_conditions_count_as_for_other_kinds_of_targets() -> None:
    destructive = Guardrail("d", Action.REFUSE, classes=frozenset({StatementClass.DESTRUCTIVE}))
    assert decided("DELETE", "/api/v1/namespaces/p/pods/w", destructive) == "Refuse"
    assert decided("GET", "/api/v1/namespaces/p/pods/w", destructive) == "Allow"
    wide = Guardrail("w", Action.REFUSE, when="statement.kind == 'deletecollection' && principal == 'ada'")
    assert decided("DELETE", "/api/v1/namespaces/p/pods", wide) == "Refuse"
    assert decided("DELETE", "/api/v1/namespaces/p/pods/w", wide) == "Allow"
    broken = Guardrail("b", Action.REFUSE, when="statement.tables[9] == 'x'")
    assert decided("GET", "/api/v1/pods", broken) == "Refuse"


@pytest.mark.parametrize(
    "target",
    [
        "/api/v1/namespaces/p/serviceaccounts/s/token",
        "/apis/certificates.k8s.io/v1/certificatesigningrequests",
    ],
)
def test_a_credential_of_ones_own_is_refused(target: str) -> None:
    found = judge(understand("POST", target), EVERYTHING, [allow(), OWN_LOGIN], ADA)
    assert isinstance(found, Refuse)
    assert found.rule == "own-login"
    assert isinstance(judge(understand("GET", "/api/v1/pods"), EVERYTHING, [OWN_LOGIN], ADA), Allow)


def test_what_is_touched_is_one_text() -> None:
    assert touched(understand("GET", "/apis/apps/v1/namespaces/prod/deployments/web")) == (
        "prod/deployments.apps/web",
    )
    assert touched(understand("DELETE", "/api/v1/namespaces/prod")) == ("namespaces/prod",)
    assert touched(understand("GET", "/metrics")) == ("/metrics",)
