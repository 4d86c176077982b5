"""Payments and refunds, their accounts, and what was spent per day."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    _payments()
    _refunds()
    _spending()
    op.execute(
        "INSERT INTO accounts (key) VALUES ('provider:stars'), ('refunds'), ('receivable') ON CONFLICT (key) DO NOTHING"
    )


def _payments() -> None:
    op.create_table(
        "payments",
        sa.Column("provider", sa.Text(), nullable=False),
        sa.Column("charge_id", sa.Text(), nullable=False),
        sa.Column("user_id", sa.BigInteger(), nullable=False),
        sa.Column("amount", sa.BigInteger(), nullable=False),
        sa.Column("currency", sa.Text(), nullable=False),
        sa.Column("credits", sa.BigInteger(), nullable=False),
        sa.Column("language", sa.Text(), nullable=False),
        sa.Column("payload", sa.Text(), server_default="", nullable=False),
        sa.Column("problem", sa.Text(), server_default="", nullable=False),
        sa.Column("recorded_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.CheckConstraint("amount > 0 AND credits > 0", name=op.f("ck_payments_positive")),
        sa.PrimaryKeyConstraint("provider", "charge_id", name=op.f("pk_payments")),
    )
    op.create_index("ix_payments_user", "payments", ["user_id", sa.literal_column("recorded_at DESC")], unique=False)
    op.execute("""
        CREATE TRIGGER payments_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON payments
        FOR EACH STATEMENT EXECUTE FUNCTION refuse_change()
    """)


def _refunds() -> None:
    op.create_table(
        "refunds",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=False), nullable=False),
        sa.Column("provider", sa.Text(), nullable=False),
        sa.Column("charge_id", sa.Text(), nullable=False),
        sa.Column("amount", sa.BigInteger(), nullable=False),
        sa.Column("taken", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("state", sa.Text(), server_default="open", nullable=False),
        sa.Column("actor", sa.Text(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("tries", sa.Integer(), server_default="0", nullable=False),
        sa.Column("last_error", sa.Text(), nullable=True),
        sa.Column("opened_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("next_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("ended_at", sa.DateTime(timezone=True), nullable=True),
        sa.CheckConstraint("state IN ('open', 'done', 'refused')", name=op.f("ck_refunds_state")),
        sa.CheckConstraint("taken BETWEEN 0 AND amount", name=op.f("ck_refunds_taken")),
        sa.ForeignKeyConstraint(
            ["provider", "charge_id"],
            ["payments.provider", "payments.charge_id"],
            name=op.f("fk_refunds_provider_payments"),
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_refunds")),
    )
    op.create_index(
        "uq_refunds_standing",
        "refunds",
        ["provider", "charge_id"],
        unique=True,
        postgresql_where=sa.text("state <> 'refused'"),
    )
    op.create_index("ix_refunds_open", "refunds", ["next_at"], unique=False, postgresql_where=sa.text("state = 'open'"))


def _spending() -> None:
    op.create_table(
        "spending",
        sa.Column("day", sa.Date(), nullable=False),
        sa.Column("amount", sa.BigInteger(), server_default="0", nullable=False),
        sa.PrimaryKeyConstraint("day", name=op.f("pk_spending")),
    )
    op.add_column("accounts", sa.Column("spent_on", sa.Date(), nullable=True))
    op.add_column("accounts", sa.Column("spent", sa.BigInteger(), server_default="0", nullable=False))
    op.add_column("holds", sa.Column("is_counted", sa.Boolean(), server_default=sa.text("false"), nullable=False))
