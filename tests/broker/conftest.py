"""A store, a clock and chance that tests hold in their hands, and the sample policy."""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from broker.bus.in_process import InProcessBus
from broker.config import Config
from broker.identity.directory import Person, StaticDirectory
from broker.service import Service
from broker.store.engine import Store
from tests import tables
from workflows.model import Group, Mask, Principal, Quorum, Resource, Role, Terms
from workflows.policy import Policy, Rule


class FakeClock:
    """Time stands still until a test moves it."""

    def __init__(self) -> None:
        self.at = datetime(2026, 11, 24, 9, 0, tzinfo=UTC)

    def now(self) -> datetime:
        return self.at

    def monotonic(self) -> float:
        return self.at.timestamp()

    def advance(self, **span: float) -> None:
        self.at += timedelta(**span)


class CountingChance:
    """Tokens and ids in their order, so that a test can foresee them."""

    def __init__(self) -> None:
        self.numbers = itertools.count(1)

    def token(self, nbytes: int) -> str:
        return f"{next(self.numbers):0{nbytes}d}"

    def id(self, prefix: str, length: int = 6) -> str:
        return f"{prefix}-{next(self.numbers):0{length}d}"


def sample_config(*, needed: int = 1) -> Config:
    readonly = Role("readonly", ("app_readonly",), Terms((Mask("public.users", "email", "email"),)))
    readwrite = Role("readwrite", ("app_readwrite",))
    resource = Resource("prod-db", "postgres", "Shop", ("shop",), (readonly, readwrite))
    rule = Rule(
        name="engineers-read-prod",
        who=frozenset({"engineers"}),
        resources=frozenset({"prod-db"}),
        roles=("readonly", "readwrite"),
        longest=timedelta(hours=4),
        usual=timedelta(hours=1),
        quorum=(Quorum("dba", needed),),
        lapse_after=timedelta(hours=8),
    )
    oncall = Rule(
        name="oncall-at-once",
        who=frozenset({"oncall"}),
        resources=frozenset({"prod-db"}),
        roles=("readonly",),
        longest=timedelta(hours=1),
        usual=timedelta(minutes=30),
        quorum=(),
        lapse_after=timedelta(hours=8),
    )
    groups = {name: Group(name) for name in ("engineers", "dba", "oncall", "security")}
    members = {
        "ada": ("engineers",),
        "bob": ("engineers",),
        "grace": ("engineers", "dba"),
        "linus": ("dba",),
        "olive": ("oncall",),
        "sam": ("security",),
        "zoe": (),
    }
    people = {
        name: Person(
            Principal(name, name.title(), f"{name}@example.com", frozenset(of)), slack=f"U0{name.upper()}"
        )
        for name, of in members.items()
    }
    policy = Policy(groups, {"prod-db": resource}, (rule, oncall), frozenset({"security"}), "0" * 64)
    return Config(policy, StaticDirectory(people))


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def chance() -> CountingChance:
    return CountingChance()


@pytest.fixture(params=["sqlite", "postgresql"])
def store_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Each test that takes it runs on both databases, with the tables in place."""
    if request.param == "sqlite":
        return tables.sqlite(tmp_path / "portcullis.db")
    url: str = request.getfixturevalue("our_database").url("postgresql")
    return url


@pytest.fixture
async def store(store_url: str) -> AsyncIterator[Store]:
    opened = Store(store_url)
    yield opened
    await opened.close()


@pytest.fixture
def config() -> Config:
    return sample_config()


@pytest.fixture
async def make_service(
    store: Store, store_url: str, clock: FakeClock, chance: CountingChance
) -> AsyncIterator[Callable[..., Service]]:
    """Another broker on the same database, with connections of its own: `make_service(config)`."""
    opened: list[Store] = []

    def make(config: Config | None = None, bus: InProcessBus | None = None) -> Service:
        chosen = config or sample_config()
        opened.append(Store(store_url))
        return Service(opened[-1], lambda: chosen, clock, chance, bus or InProcessBus())

    yield make
    for one in opened:
        await one.close()


@pytest.fixture
def service(make_service: Callable[..., Service]) -> Service:
    return make_service()
