"""Workload tokens: the agent's own opens, and everything near it is refused."""

from __future__ import annotations

import base64
import json
from dataclasses import replace
from typing import Any

import httpx2
import pytest
from joserfc import jwt
from joserfc.jwk import ECKey, OctKey, RSAKey

from broker.config import AgentRule
from broker.identity.workloads import WorkloadError, Workloads

GITHUB = "https://token.actions.githubusercontent.com"
OTHER = "https://other.example"
AUDIENCE = "https://access.example"
BOT = AgentRule(
    "release-bot",
    "ada",
    GITHUB,
    AUDIENCE,
    (
        ("repository", ("acme/shop",)),
        ("ref", ("refs/heads/main",)),
        ("event_name", ("push", "workflow_dispatch")),
    ),
)


class Issuers:
    """Two issuers behind one transport, each with keys of its own; `asked` counts looks at keys."""

    def __init__(self) -> None:
        self.keys = {name: RSAKey.generate_key(2048, {"kid": "k1"}) for name in (GITHUB, OTHER)}
        self.asked = 0

    def __call__(self, request: httpx2.Request) -> httpx2.Response:
        issuer = f"{request.url.scheme}://{request.url.host}"
        if request.url.path == "/.well-known/openid-configuration":
            return httpx2.Response(200, json={"issuer": issuer, "jwks_uri": f"{issuer}/jwks"})
        self.asked += 1
        return httpx2.Response(200, json={"keys": [self.keys[issuer].as_dict(private=False)]})

    def token(
        self, clock: Any, *, signer: str = GITHUB, alg: str = "RS256", key: Any = None, **claims: Any
    ) -> str:
        now = int(clock.now().timestamp())
        body = {
            "iss": GITHUB,
            "aud": AUDIENCE,
            "sub": "repo:acme/shop:ref:refs/heads/main",
            "repository": "acme/shop",
            "ref": "refs/heads/main",
            "event_name": "push",
            "iat": now,
            "nbf": now,
            "exp": now + 300,
            **claims,
        }
        body = {name: value for name, value in body.items() if value is not None}
        used = key or self.keys[signer]
        return jwt.encode({"alg": alg, "kid": used.kid or "k1"}, body, used, algorithms=[alg])


@pytest.fixture(scope="module")
def issuers() -> Issuers:
    return Issuers()


@pytest.fixture
def workloads(issuers: Issuers, clock: Any) -> Workloads:
    issuers.asked = 0
    return Workloads(clock, httpx2.MockTransport(issuers))


async def refused(workloads: Workloads, token: str, *rules: AgentRule, named: str = "") -> str:
    agents = {rule.name: rule for rule in rules or (BOT,)}
    with pytest.raises(WorkloadError) as error:
        await workloads.read(token, agents, named)
    assert token not in str(error.value)
    return error.value.why


async def test_the_job_that_the_policy_means_is_its_agent(
    workloads: Workloads, issuers: Issuers, clock: Any
) -> None:
    found = await workloads.read(issuers.token(clock), {"release-bot": BOT})
    assert (found.agent, found.subject) == (BOT, "repo:acme/shop:ref:refs/heads/main")
    for audience in ([AUDIENCE], [AUDIENCE, "elsewhere"]):
        assert await workloads.read(issuers.token(clock, aud=audience), {"release-bot": BOT})
    assert issuers.asked == 1  # keys are kept


ATTACKS: dict[str, dict[str, Any]] = {
    "another repository": {"repository": "acme/shop-fork"},
    "a repository that begins like it": {"repository": "acme/shop2"},
    "the same in other letters": {"repository": "Acme/Shop"},
    "a pull request": {"ref": "refs/pull/7/merge", "event_name": "pull_request"},
    "a pull request that names the branch": {"event_name": "pull_request"},
    "a branch of that name in another form": {"ref": "main"},
    "no branch": {"ref": None},
    "claims as lists": {"repository": ["acme/shop", "eve/x"]},
    "another audience": {"aud": "https://access.example/"},
    "an audience that holds it": {"aud": "https://access.example https://eve.example"},
    "no audience": {"aud": None},
    "no subject": {"sub": None},
    "an empty subject": {"sub": ""},
    "no end": {"exp": None},
}


@pytest.mark.parametrize("claims", ATTACKS.values(), ids=ATTACKS)
async def test_what_is_nearly_the_agent_is_not(
    claims: dict[str, Any], workloads: Workloads, issuers: Issuers, clock: Any
) -> None:
    await refused(workloads, issuers.token(clock, **claims))


async def test_a_token_that_is_over_or_not_yet_good_is_refused(
    workloads: Workloads, issuers: Issuers, clock: Any
) -> None:
    now = int(clock.now().timestamp())
    await refused(workloads, issuers.token(clock, exp=now - 31))
    await refused(workloads, issuers.token(clock, nbf=now + 60))
    await refused(workloads, issuers.token(clock, exp="soon"))
    old = issuers.token(clock)
    clock.advance(seconds=331)
    await refused(workloads, old)


async def test_another_issuer_does_not_speak_for_this_one(
    workloads: Workloads, issuers: Issuers, clock: Any
) -> None:
    """Signed by a good key of another issuer that the policy trusts for another agent."""
    other = replace(BOT, name="other-bot", issuer=OTHER)
    assert (await workloads.read(issuers.token(clock, signer=OTHER, iss=OTHER), {"other-bot": other})).agent
    await refused(workloads, issuers.token(clock, signer=OTHER), BOT, other)
    await refused(workloads, issuers.token(clock, signer=GITHUB, iss=OTHER), BOT, other)
    for issuer in (f"{GITHUB}/", f"{GITHUB}.eve.example", "https://eve.example", "", None):
        await refused(workloads, issuers.token(clock, iss=issuer), BOT, other)


async def test_keys_come_from_the_policy_s_issuer_and_never_from_the_token(
    workloads: Workloads, issuers: Issuers, clock: Any
) -> None:
    mine = RSAKey.generate_key(2048)
    header = {
        "alg": "RS256",
        "kid": "k1",
        "jku": "https://eve.example/jwks",
        "jwk": mine.as_dict(private=False),
    }
    now = int(clock.now().timestamp())
    body = {"iss": GITHUB, "aud": AUDIENCE, "sub": "x", "exp": now + 60, "repository": "acme/shop"}
    body |= {"ref": "refs/heads/main", "event_name": "push"}
    forged = jwt.encode(header, body, mine, algorithms=["RS256"])
    assert "not signed" in await refused(workloads, forged)


async def test_no_algorithm_is_a_way_round(workloads: Workloads, issuers: Issuers, clock: Any) -> None:
    """`none`, and the issuer's public key as the secret of an HMAC (RFC 8725 sections 2.1 and 3.1)."""
    good = issuers.token(clock)
    _, payload, signature = good.split(".")
    none = base64.urlsafe_b64encode(b'{"alg":"none","typ":"JWT"}').decode().rstrip("=")
    for forged in (f"{none}.{payload}.", f"{none}.{payload}.{signature}"):
        await refused(workloads, forged)
    public = issuers.keys[GITHUB].as_pem(private=False)
    secret = OctKey.import_key(base64.urlsafe_b64encode(public).decode())
    claims = json.loads(base64.urlsafe_b64decode(payload + "=="))
    await refused(workloads, jwt.encode({"alg": "HS256", "kid": "k1"}, claims, secret, algorithms=["HS256"]))
    await refused(workloads, issuers.token(clock, alg="ES256", key=ECKey.generate_key("P-256")))


@pytest.mark.parametrize(
    "token", ["", "a.b", "a.b.c", "..", "a" * 20_000, "e30.e30.e30", "ü.ü.ü", "e30.W10.x"]
)
async def test_what_is_no_token_is_refused_in_words(token: str, workloads: Workloads) -> None:
    with pytest.raises(WorkloadError):
        await workloads.read(token, {"release-bot": BOT})


async def test_a_new_key_is_looked_up_and_not_more_often_than_every_half_minute(
    workloads: Workloads, issuers: Issuers, clock: Any
) -> None:
    await workloads.read(issuers.token(clock), {"release-bot": BOT})
    before = issuers.keys[GITHUB]
    issuers.keys[GITHUB] = RSAKey.generate_key(2048, {"kid": "k2"})
    try:
        rotated = issuers.token(clock)
        await refused(workloads, rotated)
        await refused(workloads, rotated)
        assert issuers.asked == 1
        clock.advance(seconds=31)
        assert await workloads.read(issuers.token(clock), {"release-bot": BOT})
        assert issuers.asked == 2
        await refused(workloads, issuers.token(clock, key=before))
    finally:
        issuers.keys[GITHUB] = before


async def test_of_several_that_fit_one_has_to_be_named(
    workloads: Workloads, issuers: Issuers, clock: Any
) -> None:
    wider = replace(BOT, name="wide-bot", claims=(("repository", ("acme/shop",)),))
    token = issuers.token(clock)
    assert "say which" in await refused(workloads, token, BOT, wider)
    both = {rule.name: rule for rule in (BOT, wider)}
    assert (await workloads.read(token, both, "wide-bot")).agent is wider
    await refused(workloads, token, BOT, wider, named="nobody")


async def test_a_kubernetes_service_account_is_read_with_keys_of_the_policy(
    issuers: Issuers, clock: Any
) -> None:
    """The cluster's API server cannot be reached from here: its keys stand beside the policy."""
    cluster = "https://kubernetes.default.svc.cluster.local"
    keys = json.dumps({"keys": [issuers.keys[GITHUB].as_dict(private=False)]})
    subject = "system:serviceaccount:shop:migrator"
    rule = AgentRule("migrator", "ada", cluster, AUDIENCE, (("sub", (subject,)),), keys=keys)

    def nobody(_request: httpx2.Request) -> httpx2.Response:
        raise httpx2.ConnectError("there is no way there")

    alone = Workloads(clock, httpx2.MockTransport(nobody))
    inside = {"kubernetes.io": {"namespace": "shop", "serviceaccount": {"name": "migrator", "uid": "1"}}}
    token = issuers.token(clock, iss=cluster, aud=[AUDIENCE], sub=subject, **inside)
    assert (await alone.read(token, {"migrator": rule})).agent is rule
    await refused(alone, issuers.token(clock, iss=cluster, sub=f"{subject}2", **inside), rule)


async def test_an_issuer_that_is_away_or_calls_itself_otherwise_lets_nobody_in(
    clock: Any, issuers: Issuers
) -> None:
    def other(request: httpx2.Request) -> httpx2.Response:
        return httpx2.Response(200, json={"issuer": "https://eve.example", "jwks_uri": f"{GITHUB}/jwks"})

    def away(_request: httpx2.Request) -> httpx2.Response:
        raise httpx2.ConnectError("no")

    for handler in (other, away, lambda _request: httpx2.Response(500)):
        await refused(Workloads(clock, httpx2.MockTransport(handler)), issuers.token(clock))
