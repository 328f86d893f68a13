"""Slack accounts that people have linked to themselves.

Revision ID: 0008
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from broker.store.tables import Instant

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "slack_links",
        sa.Column("team", sa.String(length=32), nullable=False),
        sa.Column("slack_user", sa.String(length=32), nullable=False),
        sa.Column("principal", sa.String(length=200), nullable=False),
        sa.Column("email", sa.String(length=320), nullable=False),
        sa.Column("slack_email", sa.String(length=320), nullable=False),
        sa.Column("how", sa.String(length=16), nullable=False),
        sa.Column("linked_at", Instant(), nullable=False),
        sa.PrimaryKeyConstraint("team", "slack_user", name=op.f("pk_slack_links")),
        sa.UniqueConstraint("team", "principal", name=op.f("uq_slack_links_team_principal")),
    )
