"""Sessions that somebody ended by themselves, their grants staying; sessions found by resource and time.

Revision ID: 0007
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from broker.store.tables import Instant

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("sessions", sa.Column("killed_at", Instant(), nullable=True))
    op.add_column(
        "sessions", sa.Column("killed_by", sa.String(length=200), nullable=False, server_default="")
    )
    op.add_column("sessions", sa.Column("kill_reason", sa.Text(), nullable=False, server_default=""))
    op.create_index(op.f("ix_sessions_killed_at"), "sessions", ["killed_at"], unique=False)
    op.create_index(
        op.f("ix_sessions_resource_opened_at"), "sessions", ["resource", "opened_at"], unique=False
    )
    op.create_index(op.f("ix_sessions_opened_at"), "sessions", ["opened_at"], unique=False)
