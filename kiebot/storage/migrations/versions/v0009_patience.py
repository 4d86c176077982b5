"""When the first of the setbacks in a row was: patience goes by time. What a card told last. The audit by subject."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("generations", sa.Column("troubled_at", sa.DateTime(timezone=True)))
    op.add_column("cards", sa.Column("told_state", sa.Text()))
    op.create_index("ix_audit_subject", "audit", ["subject"], unique=False)
    # Who is in trouble already began, at the latest, now.
    op.execute("UPDATE generations SET troubled_at = now() WHERE setbacks > 0 AND finished_at IS NULL")
