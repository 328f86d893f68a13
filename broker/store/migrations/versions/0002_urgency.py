"""Emergencies, wake-ups and offline codes.

Revision ID: 0002
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from broker.store.tables import Instant

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("stories", sa.Column("emergency", sa.Boolean(), server_default=sa.false(), nullable=False))
    op.add_column("stories", sa.Column("review_due", Instant(), nullable=True))
    op.add_column("stories", sa.Column("wake_at", Instant(), nullable=True))
    op.create_index(op.f("ix_stories_wake_at"), "stories", ["wake_at"], unique=False)
    op.create_index(op.f("ix_stories_review_due"), "stories", ["review_due"], unique=False)
    op.create_table(
        "offline_codes",
        sa.Column("id", sa.String(length=16), nullable=False),
        sa.Column("principal", sa.String(length=200), nullable=False),
        sa.Column("salt", sa.String(length=64), nullable=False),
        sa.Column("hash", sa.String(length=128), nullable=False),
        sa.Column("made_by", sa.String(length=200), nullable=False),
        sa.Column("made_at", Instant(), nullable=False),
        sa.Column("expires_at", Instant(), nullable=False),
        sa.Column("ended_at", Instant(), nullable=True),
        sa.Column("used_for", sa.String(length=32), server_default="", nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_offline_codes")),
    )
    op.create_index(op.f("ix_offline_codes_principal"), "offline_codes", ["principal"], unique=False)
