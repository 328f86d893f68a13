"""The tables. Portable between SQLite and PostgreSQL; migrations/ builds exactly these.

A story (one access request and the grant it led to) is one row: the document in JSON, and beside it the
columns that queries need: `review_due` while a review is owed, `wake_at` when something is to be done that
is no end (a step of a ladder, a warning, a reminder). There is nowhere to put a second grant for a request.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    DateTime,
    Dialect,
    Index,
    Integer,
    MetaData,
    String,
    Table,
    Text,
    UniqueConstraint,
    false,
)
from sqlalchemy.types import TypeDecorator, TypeEngine


class Instant(TypeDecorator[datetime]):
    """An aware UTC datetime with microseconds: TIMESTAMPTZ on PostgreSQL, sortable text on SQLite.

    A naive datetime is refused with ValueError, so that no local time slips in.
    """

    impl = String(32)
    cache_ok = True

    def load_dialect_impl(self, dialect: Dialect) -> TypeEngine[Any]:
        if dialect.name == "postgresql":
            return dialect.type_descriptor(DateTime(timezone=True))
        return dialect.type_descriptor(String(32))

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> Any:
        if value is None:
            return None
        if value.tzinfo is None:
            raise ValueError("an instant without a time zone")
        value = value.astimezone(UTC)
        return value if dialect.name == "postgresql" else value.isoformat(timespec="microseconds")

    def process_result_value(self, value: Any, dialect: Dialect) -> datetime | None:
        if value is None:
            return None
        return (value if isinstance(value, datetime) else datetime.fromisoformat(value)).astimezone(UTC)


Serial = BigInteger().with_variant(Integer, "sqlite")
"""SQLite numbers rows by itself only where the key is exactly INTEGER."""

metadata = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "pk": "pk_%(table_name)s",
    }
)

stories = Table(
    "stories",
    metadata,
    Column("request_id", String(32), primary_key=True),
    Column("grant_id", String(32), unique=True),
    Column("version", Integer, nullable=False),
    Column("requester", String(200), nullable=False),
    Column("holder", String(200), nullable=False, server_default=""),
    Column("resource", String(200), nullable=False),
    Column("role", String(200), nullable=False),
    Column("request_state", String(16), nullable=False),
    Column("grant_state", String(16)),
    Column("created_at", Instant, nullable=False),
    Column("lapses_at", Instant, nullable=False),
    Column("expiry", Instant),
    Column("request", Text, nullable=False),
    Column("grant", Text),
    Column("emergency", Boolean, nullable=False, server_default=false()),
    Column("review_due", Instant),
    Column("wake_at", Instant),
    Index(None, "request_state", "lapses_at"),
    Index(None, "grant_state", "expiry"),
    Index(None, "requester", "created_at"),
    Index(None, "holder", "created_at"),
    Index(None, "wake_at"),
    Index(None, "review_due"),
)

credentials = Table(
    "credentials",
    metadata,
    Column("grant_id", String(32), primary_key=True),
    Column("resource", String(200), nullable=False),
    Column("login", String(63), nullable=False),
    Column("sealed", Text, nullable=False),
    Column("key_id", String(32), nullable=False),
    Column("made_at", Instant, nullable=False),
    Column("ready_at", Instant),
    Column("dropped_at", Instant),
    UniqueConstraint("resource", "login"),
)
"""A login at a target, made for one grant. `sealed` is emptied when the login is dropped."""

tokens = Table(
    "tokens",
    metadata,
    Column("hash", String(64), primary_key=True),
    Column("kind", String(16), nullable=False),
    Column("principal", String(200), nullable=False),
    Column("label", String(200), nullable=False),
    Column("payload", Text, nullable=False),
    Column("origin", String(64), nullable=False, server_default=""),
    Column("stored_key", String(64), nullable=False, server_default=""),
    Column("server_key", String(64), nullable=False, server_default=""),
    Column("created_at", Instant, nullable=False),
    Column("expires_at", Instant, nullable=False),
    Column("ended_at", Instant),
    Column("device", String(16), nullable=False, server_default=""),
    Index(None, "principal", "kind"),
    Index(None, "origin"),
)
"""SHA-256 of a token, and of one for the gate its SCRAM verifier; never the token. `payload` is what a
one-time page shows, sealed. `device` is the login that one for the gate came of, as identity/devices.py
names it; `origin` stands for the login at the identity provider that it comes from."""

locks = Table(
    "locks",
    metadata,
    Column("id", String(32), primary_key=True),
    Column("kind", String(16), nullable=False),
    Column("target", String(200), nullable=False),
    Column("principal", String(200), nullable=False),
    Column("reason", Text, nullable=False),
    Column("made_by", String(200), nullable=False),
    Column("made_at", Instant, nullable=False),
    Column("ended_at", Instant),
    Column("ended_by", String(200), nullable=False, server_default=""),
    Index(None, "ended_at"),
)
"""What is locked until somebody takes the lock away. `principal` is the owner of a device."""

sessions = Table(
    "sessions",
    metadata,
    Column("id", String(32), primary_key=True),
    Column("request_id", String(32), nullable=False),
    Column("grant_id", String(32), nullable=False),
    Column("principal", String(200), nullable=False),
    Column("resource", String(200), nullable=False),
    Column("role", String(200), nullable=False),
    Column("gate", String(200), nullable=False),
    Column("protocol", String(16), nullable=False),
    Column("client", String(200), nullable=False),
    Column("opened_at", Instant, nullable=False),
    Column("lease_until", Instant, nullable=False),
    Column("closed_at", Instant),
    Column("close_reason", String(16), nullable=False, default=""),
    Column("detail", Text, nullable=False, default=""),
    Column("entries", BigInteger, nullable=False, default=0),
    Column("head", String(64), nullable=False, default=""),
    Column("statements", BigInteger, nullable=False, default=0),
    Column("refused", BigInteger, nullable=False, default=0),
    Column("rows", BigInteger, nullable=False, default=0),
    Column("killed_at", Instant),
    Column("killed_by", String(200), nullable=False, server_default=""),
    Column("kill_reason", Text, nullable=False, server_default=""),
    Column("device", String(16), nullable=False, server_default=""),
    Index(None, "killed_at"),
    Index(None, "grant_id", "closed_at"),
    Index(None, "closed_at", "lease_until"),
    Index(None, "principal", "opened_at"),
    Index(None, "resource", "opened_at"),
    Index(None, "opened_at"),
)

audit = Table(
    "audit",
    metadata,
    Column("seq", BigInteger, primary_key=True, autoincrement=False),
    Column("at", Instant, nullable=False),
    Column("kind", String(40), nullable=False),
    Column("subject", String(200), nullable=False),
    Column("actor", String(200), nullable=False),
    Column("via", String(16), nullable=False),
    Column("body", Text, nullable=False),
    Column("prev", String(64), nullable=False),
    Column("hash", String(64), nullable=False),
    Index(None, "subject", "seq"),
)

audit_head = Table(
    "audit_head",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=False),
    Column("seq", BigInteger, nullable=False),
    Column("hash", String(64), nullable=False),
)
"""One row: the last entry of the trail. Locking it puts concurrent writers in a line."""

audit_checkpoints = Table(
    "audit_checkpoints",
    metadata,
    Column("seq", BigInteger, primary_key=True, autoincrement=False),
    Column("hash", String(64), nullable=False),
    Column("at", Instant, nullable=False),
    Column("key_id", String(32), nullable=False),
    Column("signature", String(128), nullable=False),
)

outbox = Table(
    "outbox",
    metadata,
    Column("id", Serial, primary_key=True),
    Column("kind", String(16), nullable=False),
    Column("key", String(64), nullable=False),
    Column("payload", Text, nullable=False),
    Column("created_at", Instant, nullable=False),
    Column("available_at", Instant, nullable=False),
    Column("attempts", Integer, nullable=False, default=0),
    Column("claim", String(64)),
    Column("claimed_until", Instant),
    Column("done_at", Instant),
    Column("problem", Text, nullable=False, default=""),
    Index(None, "done_at", "kind", "available_at"),
    Index(None, "key", "done_at"),
)

deliveries = Table(
    "deliveries",
    metadata,
    Column("key", String(200), primary_key=True),
    Column("at", Instant, nullable=False),
    Column("actor", String(200), nullable=False),
    Column("request_id", String(32), nullable=False, default=""),
    Column("refusal", Text, nullable=False, default=""),
    Index(None, "at"),
)
"""What came of a delivery, so that the same delivery again has no second effect."""

cards = Table(
    "cards",
    metadata,
    Column("request_id", String(32), primary_key=True),
    Column("kind", String(40), primary_key=True),
    Column("channel", String(32), nullable=False),
    Column("ts", String(32), nullable=False),
    Column("version", Integer, nullable=False),
)
"""Where the messages of a story are: `kind` is the courier's own word (channel, dm, note…)."""

allowances = Table(
    "allowances",
    metadata,
    Column("id", String(32), primary_key=True),
    Column("approver", String(200), nullable=False),
    Column("principal", String(200), nullable=False),
    Column("resource", String(200), nullable=False),
    Column("until", Instant, nullable=False),
    Column("ended_at", Instant),
    Column("allowance", Text, nullable=False),
    Index(None, "principal", "resource"),
    Index(None, "ended_at", "until"),
)
"""Yeses in advance: the document, and beside it what queries need."""

pages = Table(
    "pages",
    metadata,
    Column("request_id", String(32), primary_key=True),
    Column("pager", String(200), primary_key=True),
    Column("sent_at", Instant, nullable=False),
    Column("settled_at", Instant),
)
"""Who was paged for what, and whether that is over."""

settings = Table(
    "settings",
    metadata,
    Column("name", String(64), primary_key=True),
    Column("value", Text, nullable=False),
)
"""Small facts about this installation."""

offline_codes = Table(
    "offline_codes",
    metadata,
    Column("id", String(16), primary_key=True),
    Column("principal", String(200), nullable=False),
    Column("salt", String(64), nullable=False),
    Column("hash", String(128), nullable=False),
    Column("made_by", String(200), nullable=False),
    Column("made_at", Instant, nullable=False),
    Column("expires_at", Instant, nullable=False),
    Column("ended_at", Instant),
    Column("used_for", String(32), nullable=False, server_default=""),
    Index(None, "principal"),
)
"""Sealed codes for when nothing else works: scrypt of a code, never the code. Each is good once."""

reviews = Table(
    "reviews",
    metadata,
    Column("id", String(32), primary_key=True),
    Column("version", Integer, nullable=False),
    Column("requester", String(200), nullable=False),
    Column("resource", String(200), nullable=False),
    Column("request_id", String(32), nullable=False),
    Column("grant_id", String(32), nullable=False),
    Column("session_id", String(32), nullable=False),
    Column("gate", String(200), nullable=False),
    Column("digest", String(64), nullable=False),
    Column("state", String(16), nullable=False),
    Column("created_at", Instant, nullable=False),
    Column("lapses_at", Instant, nullable=False),
    Column("review", Text, nullable=False),
    Index(None, "state", "lapses_at"),
    Index(None, "session_id", "digest"),
    Index(None, "gate", "state"),
)
"""Statements that wait, or waited, for a decision: the document, and beside it what queries need."""

results = Table(
    "results",
    metadata,
    Column("review_id", String(32), primary_key=True),
    Column("sealed", Text, nullable=False),
    Column("created_at", Instant, nullable=False),
    Column("expires_at", Instant, nullable=False),
    Index(None, "expires_at"),
)
"""What came of a submitted statement, masked by the gate and sealed; gone after a while."""

passkeys = Table(
    "passkeys",
    metadata,
    Column("id", String(16), primary_key=True),
    Column("principal", String(200), nullable=False),
    Column("credential", String(1400), nullable=False, unique=True),
    Column("public_key", Text, nullable=False),
    Column("sign_count", BigInteger, nullable=False),
    Column("name", String(80), nullable=False),
    Column("transports", String(200), nullable=False),
    Column("synced", Boolean, nullable=False),
    Column("made_at", Instant, nullable=False),
    Column("used_at", Instant),
    Index(None, "principal"),
)
"""Public keys of people's authenticators (WebAuthn). `credential` and `public_key` are base 64 for URLs;
`synced` keys are on several devices of their owner's.
"""

scim_users = Table(
    "scim_users",
    metadata,
    Column("id", String(36), primary_key=True),
    Column("principal", String(200), nullable=False),
    Column("bound", Boolean, nullable=False),
    Column("name_key", String(320), nullable=False),
    Column("external_id", String(320), nullable=False),
    Column("email", String(320), nullable=False),
    Column("name", String(320), nullable=False),
    Column("timezone", String(64), nullable=False),
    Column("active", Boolean, nullable=False),
    Column("document", Text, nullable=False),
    Column("version", Integer, nullable=False),
    Column("created_at", Instant, nullable=False),
    Column("changed_at", Instant, nullable=False),
    Column("deleted_at", Instant),
    Index(None, "name_key"),
    Index(None, "principal"),
    Index(None, "external_id"),
)
"""People whom an identity provider has brought, and has taken away again."""

scim_groups = Table(
    "scim_groups",
    metadata,
    Column("id", String(36), primary_key=True),
    Column("name", String(320), nullable=False),
    Column("external_id", String(320), nullable=False),
    Column("document", Text, nullable=False),
    Column("version", Integer, nullable=False),
    Column("created_at", Instant, nullable=False),
    Column("changed_at", Instant, nullable=False),
    Index(None, "name"),
)

scim_members = Table(
    "scim_members",
    metadata,
    Column("group_id", String(36), primary_key=True),
    Column("user_id", String(36), primary_key=True),
    Column("display", String(320), nullable=False, server_default=""),
    Index(None, "user_id"),
)

slack_links = Table(
    "slack_links",
    metadata,
    Column("team", String(32), primary_key=True),
    Column("slack_user", String(32), primary_key=True),
    Column("principal", String(200), nullable=False),
    Column("email", String(320), nullable=False),
    Column("slack_email", String(320), nullable=False),
    Column("how", String(16), nullable=False),
    Column("linked_at", Instant, nullable=False),
    UniqueConstraint("team", "principal"),
)
"""Which Slack account is whose. The e-mail addresses are those of both sides when it was linked: where one
of them has changed, the link is over.
"""

identities = Table(
    "identities",
    metadata,
    Column("issuer", String(400), primary_key=True),
    Column("subject", String(400), primary_key=True),
    Column("principal", String(200), nullable=False, unique=True),
    Column("provider", String(64), nullable=False),
    Column("email", String(320), nullable=False),
    Column("bound_at", Instant, nullable=False),
    Column("groups", Text),
    Column("groups_at", Instant),
    Column("confirmed_at", Instant, nullable=False),
    Column("renewal", Text, nullable=False, server_default=""),
)
"""Which account at an identity provider is whose, from the first login on. `groups` are those that the
provider told last, in its own words, at `groups_at`; NULL where it tells none. `confirmed_at` is when the
provider said last that the login stands, `renewal` the sealed refresh token by which it is asked again.
"""

gates = Table(
    "gates",
    metadata,
    Column("name", String(64), primary_key=True),
    Column("token_hash", String(64), nullable=False, unique=True),
    Column("token_until", Instant, nullable=False),
    Column("joined_key", String(64), nullable=False),
    Column("serial", String(40), nullable=False),
    Column("former", String(40), nullable=False),
    Column("until", Instant),
    Column("made_by", String(200), nullable=False),
    Column("made_at", Instant, nullable=False),
    Column("joined_at", Instant),
    Column("ended_at", Instant),
)
"""Gates on other machines. Of each one certificate is good, `serial`, and the one before it until that one is
used first, so that an answer that was lost locks nobody out.
"""

gate_authorities = Table(
    "gate_authorities",
    metadata,
    Column("id", String(32), primary_key=True),
    Column("certificate", Text, nullable=False),
    Column("sealed", Text, nullable=False),
    Column("made_at", Instant, nullable=False),
)
"""Who signs the certificates between gates and brokers: the newest, and the one before as it settles in."""
