"""SCRAM verifiers of the tokens for the gate.

Revision ID: 0005
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    for name in ("stored_key", "server_key"):
        op.add_column("tokens", sa.Column(name, sa.String(length=64), nullable=False, server_default=""))
