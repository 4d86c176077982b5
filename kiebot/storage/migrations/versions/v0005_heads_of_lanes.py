"""The head of a lane is one look into an index, urgent presses included, however many updates wait."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_index(
        "ix_inbox_head",
        "inbox",
        ["lane", sa.text("urgent DESC"), "id"],
        unique=False,
        postgresql_where=sa.text("done_at IS NULL"),
    )
    op.drop_index("ix_inbox_waiting", table_name="inbox", postgresql_where=sa.text("done_at IS NULL"))
