"""Accounts at identity providers: whose they are, their groups, and which logins come from which.

Revision ID: 0011
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from broker.store.tables import Instant

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "identities",
        sa.Column("issuer", sa.String(length=400), nullable=False),
        sa.Column("subject", sa.String(length=400), nullable=False),
        sa.Column("principal", sa.String(length=200), nullable=False),
        sa.Column("provider", sa.String(length=64), nullable=False),
        sa.Column("email", sa.String(length=320), nullable=False),
        sa.Column("bound_at", Instant(), nullable=False),
        sa.Column("groups", sa.Text(), nullable=True),
        sa.Column("groups_at", Instant(), nullable=True),
        sa.Column("confirmed_at", Instant(), nullable=False),
        sa.Column("renewal", sa.Text(), server_default="", nullable=False),
        sa.PrimaryKeyConstraint("issuer", "subject", name=op.f("pk_identities")),
        sa.UniqueConstraint("principal", name=op.f("uq_identities_principal")),
    )
    op.add_column("tokens", sa.Column("origin", sa.String(length=64), server_default="", nullable=False))
    op.create_index(op.f("ix_tokens_origin"), "tokens", ["origin"], unique=False)
