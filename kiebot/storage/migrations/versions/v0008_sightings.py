"""What the provider last said of a task, counters that are not shared, and the trouble a breaker counts."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None


def upgrade() -> None:
    for name in ("seen_at", "ready_at", "missing_at"):
        op.add_column("generations", sa.Column(name, sa.DateTime(timezone=True)))
    for name in ("missings", "busies", "stumbles"):
        op.add_column("generations", sa.Column(name, sa.SmallInteger(), server_default="0", nullable=False))
    op.add_column("attempts", sa.Column("is_trouble", sa.Boolean(), server_default=sa.text("false"), nullable=False))
    op.create_index("ix_attempts_answered", "attempts", ["answered_at"], unique=False)
