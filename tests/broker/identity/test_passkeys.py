"""Passkeys: what registers one, what proves a person, and everything that only looks like it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from broker import audit
from broker.identity.kept import Keep
from broker.identity.passkeys import Ceremony, Passkeys
from broker.identity.web import WebSession, WebSessions
from broker.service import Service
from broker.store.engine import Store
from broker.store.passkeys import Passkey
from tests.soft_authenticator import BE, BS, UP, UV, SoftAuthenticator, tampered
from workflows.model import Principal, Refusal

URL = "https://access.example"
ABOUT = "digest of what is shown"


@pytest.fixture
def service(make_service: Callable[..., Service]) -> Service:
    made = make_service()
    made.public_url = URL
    return made


@pytest.fixture
def keys(service: Service) -> Passkeys:
    return Passkeys(service)


@pytest.fixture
def ada(service: Service) -> Principal:
    found = service.principal("ada")
    assert found is not None
    return found


@pytest.fixture
async def session(store: Store, clock: Any, chance: Any) -> WebSession:
    return await WebSessions(Keep(store, clock, chance)).open("ada")


async def registered(
    keys: Passkeys, person: Principal, session: WebSession, device: SoftAuthenticator
) -> Passkey | Refusal:
    asked = await keys.begin_registration(person, session)
    assert isinstance(asked, Ceremony)
    return await keys.register(person, session, asked.secret, device.create(asked.options), "Laptop")


async def asked(keys: Passkeys, person: Principal, session: WebSession, about: str = ABOUT) -> Ceremony:
    found = await keys.begin(person, session, about)
    assert isinstance(found, Ceremony)
    return found


async def refusals(store: Store) -> list[str]:
    async with store.read() as tx:
        found = [e for e in await audit.newest(tx, limit=100) if e.kind == "refused"]
    return [json.loads(entry.body)["code"] for entry in found]


@pytest.fixture
async def device(keys: Passkeys, ada: Principal, session: WebSession) -> SoftAuthenticator:
    """Ada's, registered."""
    made = SoftAuthenticator(URL)
    assert isinstance(await registered(keys, ada, session, made), Passkey)
    return made


async def test_a_registered_key_proves_its_owner_for_what_was_shown(
    keys: Passkeys, ada: Principal, session: WebSession, device: SoftAuthenticator, store: Store
) -> None:
    it = await asked(keys, ada, session)
    proved = await keys.prove(ada, session, it.secret, ABOUT, device.get(it.options))
    assert isinstance(proved, Passkey)
    kept = (await keys.of("ada"))[0]
    assert (kept.id, kept.name, kept.sign_count, kept.transports) == (proved.id, "Laptop", 1, "internal")
    assert kept.used_at is not None
    async with store.read() as tx:
        assert [e.kind for e in await audit.newest(tx) if e.kind.startswith("passkey")] == ["passkey.added"]


async def test_user_verification_is_asked_for_and_the_known_keys_are_named(
    keys: Passkeys, ada: Principal, session: WebSession, device: SoftAuthenticator
) -> None:
    options = json.loads((await asked(keys, ada, session)).options)
    assert options["userVerification"] == "required"
    assert options["rpId"] == "access.example"
    assert len(options["allowCredentials"]) == 1
    again = await keys.begin_registration(ada, session)
    assert isinstance(again, Ceremony)
    asks = json.loads(again.options)
    assert asks["excludeCredentials"][0]["id"] == options["allowCredentials"][0]["id"]
    assert asks["authenticatorSelection"]["userVerification"] == "required"
    assert asks.get("attestation", "none") == "none"


# ------------------------------------------------------------- registering


@pytest.mark.parametrize(
    "forged",
    [
        {"flags": UP},
        {"flags": UV},
        {"origin": "https://evil.example"},
        {"origin": "http://access.example"},
        {"origin": "https://access.example:8443"},
        {"rp_id": "evil.example"},
    ],
    ids=["not verified", "not present", "other site", "no tls", "other port", "other rp"],
)
async def test_a_key_that_was_made_otherwise_is_not_registered(
    keys: Passkeys, ada: Principal, session: WebSession, store: Store, forged: dict[str, Any]
) -> None:
    device = SoftAuthenticator(**({"origin": URL} | forged))
    assert isinstance(await registered(keys, ada, session, device), Refusal)
    assert await keys.of("ada") == []
    assert await refusals(store) == ["not-proven"]


async def test_a_registration_is_good_for_one_answer_in_one_browser(
    keys: Passkeys, ada: Principal, session: WebSession, store: Store, clock: Any, chance: Any
) -> None:
    it = await keys.begin_registration(ada, session)
    assert isinstance(it, Ceremony)
    answer = SoftAuthenticator(URL).create(it.options)
    other = await WebSessions(Keep(store, clock, chance)).open("ada")
    assert isinstance(await keys.register(ada, other, it.secret, answer, ""), Refusal)
    assert isinstance(await keys.register(ada, session, it.secret, answer, ""), Refusal)  # used up by the try


async def test_a_login_that_is_not_of_now_changes_no_keys(
    keys: Passkeys, ada: Principal, session: WebSession, device: SoftAuthenticator, clock: Any
) -> None:
    clock.advance(minutes=10, seconds=1)
    begun = await keys.begin_registration(ada, session)
    assert isinstance(begun, Refusal)
    assert begun.code == "login-again"
    key = (await keys.of("ada"))[0]
    assert isinstance(await keys.remove(ada, session, key.id), Refusal)
    assert len(await keys.of("ada")) == 1


async def test_a_key_that_is_somebodys_is_registered_for_nobody_else(
    keys: Passkeys, service: Service, ada: Principal, session: WebSession, device: SoftAuthenticator,
    store: Store, clock: Any, chance: Any,
) -> None:  # fmt: skip
    bob = service.principal("bob")
    assert bob is not None
    his = await WebSessions(Keep(store, clock, chance)).open("bob")
    made = await registered(keys, bob, his, device)
    assert isinstance(made, Refusal)
    assert made.code == "known-passkey"
    again = await registered(keys, ada, session, device)
    assert isinstance(again, Refusal)


async def test_nobody_has_more_than_ten(keys: Passkeys, ada: Principal, session: WebSession) -> None:
    made = [
        await registered(keys, ada, session, SoftAuthenticator(URL, credential=f"key {n}".encode()))
        for n in range(11)
    ]
    assert [isinstance(one, Passkey) for one in made] == [True] * 10 + [False]


async def test_one_removes_ones_own_and_not_anothers(
    keys: Passkeys, service: Service, ada: Principal, session: WebSession, device: SoftAuthenticator,
    store: Store, clock: Any, chance: Any,
) -> None:  # fmt: skip
    key, bob = (await keys.of("ada"))[0], service.principal("bob")
    assert bob is not None
    his = await WebSessions(Keep(store, clock, chance)).open("bob")
    assert isinstance(await keys.remove(bob, his, key.id), Refusal)
    assert await keys.remove(ada, session, key.id) is None
    assert await keys.of("ada") == []
    gone = await keys.begin(ada, session, ABOUT)
    assert isinstance(gone, Refusal)
    assert gone.code == "no-passkey"


async def test_a_synced_key_is_known_as_one(keys: Passkeys, ada: Principal, session: WebSession) -> None:
    made = await registered(keys, ada, session, SoftAuthenticator(URL, flags=UP | UV | BE | BS))
    assert isinstance(made, Passkey)
    assert made.synced


@pytest.mark.parametrize(
    "url", ["http://127.0.0.1:8080", "http://[::1]:8080", "http://access.example", "https://10.0.0.1", ""]
)
async def test_an_address_for_which_browsers_have_no_passkeys_is_told(
    service: Service, ada: Principal, session: WebSession, url: str
) -> None:
    service.public_url = url
    for found in (
        await Passkeys(service).begin_registration(ada, session),
        await Passkeys(service).begin(ada, session, ABOUT),
    ):
        assert isinstance(found, Refusal)
        assert found.code == "no-host-name"


async def test_localhost_needs_no_tls(service: Service, ada: Principal, session: WebSession) -> None:
    service.public_url = "http://localhost:8080"
    found = await registered(Passkeys(service), ada, session, SoftAuthenticator("http://localhost:8080"))
    assert isinstance(found, Passkey)


# ----------------------------------------------------------------- proving


async def test_an_answer_is_good_once(
    keys: Passkeys, ada: Principal, session: WebSession, device: SoftAuthenticator
) -> None:
    it = await asked(keys, ada, session)
    answer = device.get(it.options)
    done = await asyncio.gather(*(keys.prove(ada, session, it.secret, ABOUT, answer) for _ in range(4)))
    assert [isinstance(one, Passkey) for one in done].count(True) == 1


async def test_a_replayed_answer_proves_nothing_for_a_new_question(
    keys: Passkeys, ada: Principal, session: WebSession, device: SoftAuthenticator
) -> None:
    first = await asked(keys, ada, session)
    answer = device.get(first.options)
    assert isinstance(await keys.prove(ada, session, first.secret, ABOUT, answer), Passkey)
    second = await asked(keys, ada, session)
    assert isinstance(await keys.prove(ada, session, second.secret, ABOUT, answer), Refusal)


async def test_an_answer_to_one_decision_is_none_to_another(
    keys: Passkeys, ada: Principal, session: WebSession, device: SoftAuthenticator
) -> None:
    """Both ways: the other decision's question with this answer, and this question for the other decision."""
    mine, other = await asked(keys, ada, session), await asked(keys, ada, session, "another decision")
    answer = device.get(mine.options)
    crossed = await keys.prove(ada, session, other.secret, "another decision", answer)
    assert isinstance(crossed, Refusal)
    moved = await keys.prove(ada, session, mine.secret, "another decision", answer)
    assert isinstance(moved, Refusal)
    assert moved.code == "changed"


@pytest.mark.parametrize(
    "forged",
    [
        {"flags": UP},
        {"flags": UV},
        {"origin": "https://evil.example"},
        {"origin": "https://access.example.evil.example"},
        {"rp_id": "evil.example"},
    ],
    ids=["not verified", "not present", "other site", "look-alike", "other rp"],
)
async def test_an_answer_made_otherwise_proves_nothing(
    keys: Passkeys,
    ada: Principal,
    session: WebSession,
    device: SoftAuthenticator,
    store: Store,
    forged: dict[str, Any],
) -> None:
    for name, value in forged.items():
        setattr(device, name, value)
    it = await asked(keys, ada, session)
    assert isinstance(await keys.prove(ada, session, it.secret, ABOUT, device.get(it.options)), Refusal)
    assert await refusals(store) == ["not-proven"]


@pytest.mark.parametrize(
    "client", [{"type": "webauthn.create"}, {"crossOrigin": True}, {"challenge": "AAAA"}, {"origin": ""}]
)
async def test_what_the_browser_says_is_held_against_the_question(
    keys: Passkeys, ada: Principal, session: WebSession, device: SoftAuthenticator, client: dict[str, Any]
) -> None:
    it = await asked(keys, ada, session)
    answer = device.get(it.options, **client)
    assert isinstance(await keys.prove(ada, session, it.secret, ABOUT, answer), Refusal)


async def test_the_key_of_somebody_else_proves_nothing(
    keys: Passkeys, service: Service, ada: Principal, session: WebSession, device: SoftAuthenticator,
    store: Store, clock: Any, chance: Any,
) -> None:  # fmt: skip
    bob = service.principal("bob")
    assert bob is not None
    his = await WebSessions(Keep(store, clock, chance)).open("bob")
    own = SoftAuthenticator(URL, credential=b"bob's own")
    assert isinstance(await registered(keys, bob, his, own), Passkey)
    it = await asked(keys, bob, his)
    assert isinstance(await keys.prove(bob, his, it.secret, ABOUT, device.get(it.options)), Refusal)
    it = await asked(keys, bob, his)
    own.key = device.key  # his credential's name, her key
    assert isinstance(await keys.prove(bob, his, it.secret, ABOUT, own.get(it.options)), Refusal)


async def test_a_question_asked_of_one_browser_is_not_answered_by_another(
    keys: Passkeys, ada: Principal, session: WebSession, device: SoftAuthenticator,
    store: Store, clock: Any, chance: Any,
) -> None:  # fmt: skip
    it = await asked(keys, ada, session)
    other = await WebSessions(Keep(store, clock, chance)).open("ada")
    answer = device.get(it.options)
    assert isinstance(await keys.prove(ada, other, it.secret, ABOUT, answer), Refusal)


async def test_a_question_is_over_after_five_minutes(
    keys: Passkeys, ada: Principal, session: WebSession, device: SoftAuthenticator, clock: Any
) -> None:
    it = await asked(keys, ada, session)
    clock.advance(minutes=5)
    assert isinstance(await keys.prove(ada, session, it.secret, ABOUT, device.get(it.options)), Refusal)


async def test_a_counter_that_does_not_go_on_tells_of_a_copied_key(
    keys: Passkeys, ada: Principal, session: WebSession, device: SoftAuthenticator
) -> None:
    device.count = 10
    it = await asked(keys, ada, session)
    assert isinstance(await keys.prove(ada, session, it.secret, ABOUT, device.get(it.options)), Passkey)
    device.count = 9  # the copy: its next use is the 10th again
    it = await asked(keys, ada, session)
    assert isinstance(await keys.prove(ada, session, it.secret, ABOUT, device.get(it.options)), Refusal)


async def test_a_key_that_counts_nothing_is_used_again_and_again(
    keys: Passkeys, ada: Principal, session: WebSession, device: SoftAuthenticator
) -> None:
    device.counts = False
    for _ in range(3):
        it = await asked(keys, ada, session)
        assert isinstance(await keys.prove(ada, session, it.secret, ABOUT, device.get(it.options)), Passkey)


@pytest.mark.parametrize("where", ["clientDataJSON", "authenticatorData", "signature"])
async def test_one_changed_bit_proves_nothing(
    keys: Passkeys, ada: Principal, session: WebSession, device: SoftAuthenticator, where: str
) -> None:
    def flip(data: bytearray) -> bytearray:
        data[-1] ^= 1
        return data

    it = await asked(keys, ada, session)
    answer = tampered(device.get(it.options), where, flip)
    assert isinstance(await keys.prove(ada, session, it.secret, ABOUT, answer), Refusal)


NONSENSE = st.one_of(
    st.text(max_size=200),
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(max_size=20),
        lambda inner: (
            st.lists(inner, max_size=4)
            | st.dictionaries(st.sampled_from(["id", "rawId", "type", "response", "clientDataJSON"]), inner)
        ),
        max_leaves=12,
    ).map(json.dumps),
)


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(NONSENSE)
def test_nonsense_is_refused_and_breaks_nothing(nonsense: str) -> None:
    from broker.identity.passkeys import _json, _transports

    assert isinstance(_json(nonsense), dict)
    assert isinstance(_transports(nonsense), str)


@pytest.mark.parametrize(
    "answer", ["", "[]", "null", "{", '{"id": 1}', '{"id":"x","response":{}}', "[" * 5000, "x" * 20_000]
)
async def test_an_answer_that_is_none_is_refused(
    keys: Passkeys, ada: Principal, session: WebSession, device: SoftAuthenticator, answer: str
) -> None:
    it = await asked(keys, ada, session)
    assert isinstance(await keys.prove(ada, session, it.secret, ABOUT, answer), Refusal)
    begun = await keys.begin_registration(ada, session)
    assert isinstance(begun, Ceremony)
    assert isinstance(await keys.register(ada, session, begun.secret, answer, "x"), Refusal)
