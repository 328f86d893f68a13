"""Whom access is for where that is not whoever asked; yeses in advance; who was paged.

Revision ID: 0006
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from broker.store.tables import Instant

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("stories", sa.Column("holder", sa.String(length=200), server_default="", nullable=False))
    op.execute("UPDATE stories SET holder = requester")
    op.create_index(op.f("ix_stories_holder_created_at"), "stories", ["holder", "created_at"], unique=False)
    op.create_table(
        "pages",
        sa.Column("request_id", sa.String(length=32), nullable=False),
        sa.Column("pager", sa.String(length=200), nullable=False),
        sa.Column("sent_at", Instant(), nullable=False),
        sa.Column("settled_at", Instant(), nullable=True),
        sa.PrimaryKeyConstraint("request_id", "pager", name=op.f("pk_pages")),
    )
    op.create_table(
        "allowances",
        sa.Column("id", sa.String(length=32), nullable=False),
        sa.Column("approver", sa.String(length=200), nullable=False),
        sa.Column("principal", sa.String(length=200), nullable=False),
        sa.Column("resource", sa.String(length=200), nullable=False),
        sa.Column("until", Instant(), nullable=False),
        sa.Column("ended_at", Instant(), nullable=True),
        sa.Column("allowance", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_allowances")),
    )
    op.create_index(
        op.f("ix_allowances_principal_resource"), "allowances", ["principal", "resource"], unique=False
    )
    op.create_index(op.f("ix_allowances_ended_at_until"), "allowances", ["ended_at", "until"], unique=False)
