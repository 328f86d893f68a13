from __future__ import annotations

import pytest

from broker.clock import Chance, Clock
from broker.identity.kept import Keep
from broker.identity.tokens import Tokens
from broker.store.engine import Store


@pytest.fixture
def keep(store: Store, clock: Clock, chance: Chance) -> Keep:
    return Keep(store, clock, chance)


@pytest.fixture
def tokens(store: Store, clock: Clock, chance: Chance) -> Tokens:
    return Tokens(store, clock, chance)
