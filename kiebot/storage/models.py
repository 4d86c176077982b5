"""The tables. Money is whole millicredits in bigint; times are timestamptz, stamped by the database."""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    Date,
    DateTime,
    ForeignKey,
    ForeignKeyConstraint,
    Identity,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    SmallInteger,
    Table,
    Text,
    UniqueConstraint,
    text,
)
from sqlalchemy.dialects.postgresql import JSONB, UUID

metadata = MetaData(
    naming_convention={
        "ix": "ix_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "ck": "ck_%(table_name)s_%(constraint_name)s",
        "fk": "fk_%(table_name)s_%(column_0_name)s_%(referred_table_name)s",
        "pk": "pk_%(table_name)s",
    }
)


def _at(name: str, *, nullable: bool = True, now: bool = False) -> Column[object]:
    default = text("now()") if now else None
    return Column(name, DateTime(timezone=True), nullable=nullable and not now, server_default=default)


def _count(name: str) -> Column[int]:
    return Column(name, Integer, nullable=False, server_default="0")


def _claim() -> tuple[Column[object], Column[object]]:
    return Column("claimed_by", UUID(as_uuid=True)), _at("claimed_at")


replicas = Table(
    "replicas",
    metadata,
    Column("id", UUID(as_uuid=True), primary_key=True),  # one incarnation of a process
    Column("name", Text, nullable=False),
    _at("started_at", now=True),
    _at("beat_at", now=True),
    _at("steady_since", now=True),  # since when its heartbeats have come without a gap
    Column("facts", JSONB, nullable=False, server_default=text("'{}'::jsonb")),
)

fence = Table(
    "fence",
    metadata,
    Column("bot_id", BigInteger, primary_key=True, autoincrement=False),
    Column("epoch", BigInteger, nullable=False),
    Column("token", Text, nullable=False),
    Column("replica", Text, nullable=False),
    _at("taken_at", now=True),
)

lease_beats = Table(  # of lease/postgres.py: the lock itself is an advisory one, this tells who has it and still lives
    "lease_beats",
    metadata,
    Column("name", Text, primary_key=True),
    Column("token", Text),  # none once the lease was given back
    Column("replica", Text, nullable=False),
    Column("pid", Integer, nullable=False),  # of the session that holds the lock
    Column("ttl_ms", BigInteger, nullable=False),
    _at("beat_at", now=True),
    _at("since", now=True),
    _at("rung_at"),  # the doorbell: whoever sets it back to none has heard the ring
)

terms = Table(  # the last ones, for operators: what a replica says of its term outlives it here
    "terms",
    metadata,
    Column("token", Text, primary_key=True),
    Column("bot_id", BigInteger, nullable=False),
    Column("replica", Text, nullable=False),
    _at("began_at", nullable=False),
    Column("sign", Text, nullable=False, server_default=""),  # of the previous holder's death, when it was seized
    Column("previous", Text, nullable=False, server_default=""),
    _at("ended_at"),  # none: it goes on, or its holder could not say
    Column("reason", Text, nullable=False, server_default=""),
)

inbox = Table(
    "inbox",
    metadata,
    Column("id", BigInteger, Identity(), primary_key=True),
    Column("bot_id", BigInteger, nullable=False),
    Column("update_id", BigInteger, nullable=False),
    Column("lane", Text, nullable=False),
    Column("payload", LargeBinary, nullable=False),
    Column("urgent", Boolean, nullable=False, server_default=text("false")),
    Column("attempts", SmallInteger, nullable=False, server_default="0"),
    _at("received_at", now=True),
    _at("next_at", now=True),
    _at("swept_at"),
    _at("done_at"),
    Column("last_error", Text),
    UniqueConstraint("bot_id", "update_id"),
)
Index("ix_inbox_head", inbox.c.lane, inbox.c.urgent.desc(), inbox.c.id, postgresql_where=inbox.c.done_at.is_(None))
Index("ix_inbox_age", inbox.c.next_at, postgresql_where=inbox.c.done_at.is_(None))
Index("ix_inbox_done", inbox.c.done_at, postgresql_where=inbox.c.done_at.isnot(None))

lanes = Table(
    "lanes",
    metadata,
    Column("key", Text, primary_key=True),
    Column("revision", BigInteger, nullable=False, server_default="0"),
    Column("claim_no", BigInteger, nullable=False, server_default="0"),
    *_claim(),
)

dead_letters = Table(
    "dead_letters",
    metadata,
    Column("id", BigInteger, Identity(), primary_key=True),
    Column("kind", Text, nullable=False),  # update | outbox | work
    Column("source_id", BigInteger, nullable=False),
    Column("payload", LargeBinary, nullable=False),
    Column("reason", Text, nullable=False),
    _at("buried_at", now=True),
    _at("revived_at"),
    _at("closed_at"),  # looked at by somebody, and left as it is
    UniqueConstraint("kind", "source_id"),
)

users = Table(
    "users",
    metadata,
    Column("id", BigInteger, primary_key=True, autoincrement=False),
    Column("first_name", Text, nullable=False, server_default=""),
    Column("language", Text, nullable=False, server_default="en"),
    Column("language_chosen", Boolean, nullable=False, server_default=text("false")),
    _at("created_at", now=True),
    _at("seen_at", now=True),
    _at("blocked_bot_at"),
    _at("banned_at"),
    Column("hides_media", Boolean, nullable=False, server_default=text("false")),  # behind a spoiler
    Column("wants_files", Boolean, nullable=False, server_default=text("false")),  # not as pictures and videos
)

drafts = Table(
    "drafts",
    metadata,
    Column("user_id", BigInteger, primary_key=True, autoincrement=False),
    Column("chat_id", BigInteger, primary_key=True, autoincrement=False),
    Column("version", Integer, nullable=False, server_default="0"),
    Column("state", JSONB, nullable=False),
    Column("message_id", BigInteger),
    _at("updated_at", now=True),
)

generations = Table(
    "generations",
    metadata,
    Column("id", UUID(as_uuid=True), primary_key=True),
    Column("number", BigInteger, Identity(), nullable=False, unique=True),
    Column("confirm_key", Text, nullable=False, unique=True),
    Column("user_id", BigInteger, nullable=False),
    Column("chat_id", BigInteger, nullable=False),
    Column("model_id", Text, nullable=False),
    Column("inputs", JSONB, nullable=False),
    Column("language", Text, nullable=False),
    Column("state", Text, nullable=False),
    Column("cost_millicredits", BigInteger, nullable=False),
    Column("price_millicredits", BigInteger, nullable=False),
    Column("is_maximum", Boolean, nullable=False),
    Column("attempt_no", SmallInteger, nullable=False, server_default="0"),
    Column("attempt_id", UUID(as_uuid=True)),
    Column("task_id", Text),
    _count("polls"),
    Column("retakes", SmallInteger, nullable=False, server_default="0"),  # new tasks after a failure of the provider
    Column("setbacks", SmallInteger, nullable=False, server_default="0"),  # uploads or submits that failed in a row
    Column("busies", SmallInteger, nullable=False, server_default="0"),  # tasks for which the provider had no room
    Column("stumbles", SmallInteger, nullable=False, server_default="0"),  # steps that failed by a bug of ours
    Column("failure", Text),
    Column("detail", Text),
    Column("result_urls", JSONB, nullable=False, server_default=text("'[]'::jsonb")),
    Column("result_text", Text),
    Column("uploads", JSONB, nullable=False, server_default=text("'{}'::jsonb")),
    Column("holds_running_slot", Boolean, nullable=False, server_default=text("false")),
    Column("revision", BigInteger, nullable=False, server_default="0"),
    Column("claim_no", BigInteger, nullable=False, server_default="0"),
    *_claim(),
    _at("accepted_at", now=True),
    _at("submitted_at"),
    _at("seen_at"),  # the provider knew the present task
    _at("ready_at"),  # the provider first said that it has a result
    _at("missing_at"),  # the first of the answers in a row that did not know the task
    Column("missings", SmallInteger, nullable=False, server_default="0"),
    _at("troubled_at"),  # the first of the setbacks in a row
    _at("due_at"),
    _at("finished_at"),
    CheckConstraint("price_millicredits >= 0", name="price_not_negative"),
)
Index("ix_generations_due", generations.c.due_at, postgresql_where=generations.c.finished_at.is_(None))
Index("ix_generations_waiting", generations.c.accepted_at, postgresql_where=generations.c.state == "accepted")
Index(
    "ix_generations_succeeded",
    generations.c.model_id,
    generations.c.number,
    postgresql_where=generations.c.state == "succeeded",
)
Index("ix_generations_user", generations.c.user_id, generations.c.number.desc())
Index("ix_generations_task", generations.c.task_id, postgresql_where=generations.c.task_id.isnot(None))

attempts = Table(
    "attempts",
    metadata,
    Column("id", UUID(as_uuid=True), primary_key=True),  # unguessable: it stands in the callback path
    Column("generation_id", UUID(as_uuid=True), ForeignKey("generations.id"), nullable=False),
    Column("no", SmallInteger, nullable=False),
    Column("state", Text, nullable=False),
    Column("task_id", Text, unique=True),
    Column("error", Text),
    Column("consumed_millicredits", BigInteger),
    Column("suspected_loss", Boolean, nullable=False, server_default=text("false")),
    Column("is_trouble", Boolean, nullable=False, server_default=text("false")),  # the provider did not work
    _at("opened_at", now=True),
    _at("answered_at"),
    UniqueConstraint("generation_id", "no"),
)
Index("ix_attempts_answered", attempts.c.answered_at)

artifacts = Table(
    "artifacts",
    metadata,
    Column("generation_id", UUID(as_uuid=True), ForeignKey("generations.id"), primary_key=True),
    Column("position", SmallInteger, primary_key=True),
    Column("kind", Text, nullable=False),
    Column("mime", Text, nullable=False),
    Column("size_bytes", BigInteger, nullable=False),
    Column("file_id", Text, nullable=False),
    Column("url", Text, nullable=False),
    _at("created_at", now=True),
)

accounts = Table(
    "accounts",
    metadata,
    Column("key", Text, primary_key=True),
    Column("available", BigInteger, nullable=False, server_default="0"),
    Column("held", BigInteger, nullable=False, server_default="0"),
    Column("running", Integer, nullable=False, server_default="0"),
    Column("open_count", Integer, nullable=False, server_default="0"),
    Column("version", BigInteger, nullable=False, server_default="0"),
    Column("spent_on", Date),  # the day (UTC) that `spent` is of
    Column("spent", BigInteger, nullable=False, server_default="0"),  # held that day, less what came back
    CheckConstraint("key NOT LIKE 'wallet:%' OR available >= 0", name="wallet_available"),
    CheckConstraint("held >= 0", name="held"),
    CheckConstraint("running >= 0 AND open_count >= 0", name="counters"),
)

postings = Table(
    "postings",
    metadata,
    Column("key", Text, primary_key=True),
    Column("kind", Text, nullable=False),
    Column("generation_id", UUID(as_uuid=True)),
    Column("reason", Text, nullable=False, server_default=""),
    Column("actor", Text, nullable=False),
    _at("posted_at", now=True),
)

entries = Table(
    "entries",
    metadata,
    Column("posting_key", Text, ForeignKey("postings.key"), primary_key=True),
    Column("account", Text, ForeignKey("accounts.key"), primary_key=True),
    Column("delta_available", BigInteger, nullable=False),
    Column("delta_held", BigInteger, nullable=False),
    Column("available_after", BigInteger, nullable=False),
    Column("held_after", BigInteger, nullable=False),
    Column("version", BigInteger, nullable=False),
    UniqueConstraint("account", "version"),
)

holds = Table(
    "holds",
    metadata,
    Column("generation_id", UUID(as_uuid=True), ForeignKey("generations.id"), primary_key=True),
    Column("account", Text, ForeignKey("accounts.key"), nullable=False),
    Column("amount", BigInteger, nullable=False),
    _at("held_at", now=True),
    _at("expires_at", nullable=False),
    Column("is_counted", Boolean, nullable=False, server_default=text("false")),  # in its day's row of spending
)

settlements = Table(
    "settlements",
    metadata,
    Column("generation_id", UUID(as_uuid=True), ForeignKey("holds.generation_id"), primary_key=True),
    Column("outcome", Text, nullable=False),
    Column("amount", BigInteger, nullable=False),  # what was captured; 0 when voided
    _at("settled_at", now=True),
    CheckConstraint("outcome IN ('captured', 'voided')", name="outcome"),
)

spending = Table(  # of the whole cluster, kept while it has a limit
    "spending",
    metadata,
    Column("day", Date, primary_key=True),  # UTC
    Column("amount", BigInteger, nullable=False, server_default="0"),
)

payments = Table(
    "payments",
    metadata,
    Column("provider", Text, primary_key=True),
    Column("charge_id", Text, primary_key=True),  # the provider's name for it, unique there
    Column("user_id", BigInteger, nullable=False),
    Column("amount", BigInteger, nullable=False),  # in the currency's smallest unit: whole Stars
    Column("currency", Text, nullable=False),
    Column("credits", BigInteger, nullable=False),  # millicredits it bought
    Column("language", Text, nullable=False),
    Column("payload", Text, nullable=False, server_default=""),
    Column("problem", Text, nullable=False, server_default=""),  # why its invoice did not count, when it did not
    _at("recorded_at", now=True),
    CheckConstraint("amount > 0 AND credits > 0", name="positive"),
)
Index("ix_payments_user", payments.c.user_id, payments.c.recorded_at.desc())

refunds = Table(
    "refunds",
    metadata,
    Column("id", BigInteger, Identity(), primary_key=True),
    Column("provider", Text, nullable=False),
    Column("charge_id", Text, nullable=False),
    Column("amount", BigInteger, nullable=False),  # millicredits: all that the payment bought
    Column("taken", BigInteger, nullable=False, server_default="0"),  # of them, out of the wallet; the rest is owed
    Column("state", Text, nullable=False, server_default="open"),
    Column("actor", Text, nullable=False),
    Column("reason", Text, nullable=False),
    Column("tries", Integer, nullable=False, server_default="0"),
    Column("last_error", Text),
    _at("opened_at", now=True),
    _at("next_at", now=True),
    _at("ended_at"),
    ForeignKeyConstraint(["provider", "charge_id"], ["payments.provider", "payments.charge_id"]),
    CheckConstraint("state IN ('open', 'done', 'refused')", name="state"),
    CheckConstraint("taken BETWEEN 0 AND amount", name="taken"),
)
Index(
    "uq_refunds_standing",
    refunds.c.provider,
    refunds.c.charge_id,
    unique=True,
    postgresql_where=refunds.c.state != "refused",
)
Index("ix_refunds_open", refunds.c.next_at, postgresql_where=refunds.c.state == "open")

outbox = Table(
    "outbox",
    metadata,
    Column("id", BigInteger, Identity(), primary_key=True),
    Column("chat_id", BigInteger, nullable=False),
    Column("kind", Text, nullable=False),
    Column("payload", JSONB, nullable=False),
    Column("generation_id", UUID(as_uuid=True)),
    Column("key", Text, unique=True),
    Column("attempts", SmallInteger, nullable=False, server_default="0"),
    *_claim(),
    _at("created_at", now=True),
    _at("next_at", now=True),
    _at("sent_at"),
    _at("buried_at"),
    Column("message_id", BigInteger),
    Column("reason", Text),
)
Index(
    "ix_outbox_waiting",
    outbox.c.chat_id,
    outbox.c.id,
    postgresql_where=text("sent_at IS NULL AND buried_at IS NULL"),
)
Index("ix_outbox_age", outbox.c.next_at, postgresql_where=text("sent_at IS NULL AND buried_at IS NULL"))
Index("ix_outbox_sent", outbox.c.sent_at, postgresql_where=outbox.c.sent_at.isnot(None))
Index("ix_outbox_generation", outbox.c.generation_id, postgresql_where=outbox.c.generation_id.isnot(None))

cards = Table(
    "cards",
    metadata,
    Column("generation_id", UUID(as_uuid=True), ForeignKey("generations.id"), primary_key=True),
    Column("chat_id", BigInteger, nullable=False),
    Column("message_id", BigInteger),
    Column("wanted_version", Integer, nullable=False, server_default="1"),
    Column("sent_version", Integer, nullable=False, server_default="0"),
    Column("is_gone", Boolean, nullable=False, server_default=text("false")),  # wanted: deleted
    Column("told_state", Text),  # of the work, as the card last told it
    *_claim(),
    _at("next_at", now=True),
)
Index("ix_cards_behind", cards.c.next_at, postgresql_where=text("wanted_version > sent_version"))

model_switches = Table(
    "model_switches",
    metadata,
    Column("model_id", Text, primary_key=True),
    Column("reason", Text, nullable=False),
    Column("actor", Text, nullable=False),
    _at("off_since", now=True),
    _at("until"),
)

audit = Table(
    "audit",
    metadata,
    Column("id", BigInteger, Identity(), primary_key=True),
    Column("actor", Text, nullable=False),
    Column("action", Text, nullable=False),
    Column("subject", Text, nullable=False, server_default=""),  # whom or what it was done to
    Column("facts", JSONB, nullable=False),
    _at("at", now=True),
)
Index("ix_audit_actor", audit.c.actor, audit.c.at)
Index("ix_audit_subject", audit.c.subject)

confirmations = Table(  # an act that an admin was asked about: done once, by that admin, before it expires
    "confirmations",
    metadata,
    Column("nonce", Text, primary_key=True),
    Column("admin_id", BigInteger, nullable=False),
    Column("action", Text, nullable=False),
    Column("subject", Text, nullable=False),
    Column("facts", JSONB, nullable=False),
    _at("asked_at", now=True),
    _at("expires_at", nullable=False),
    _at("used_at"),
)

APPEND_ONLY = ("postings", "entries", "holds", "settlements", "payments", "audit")
CONTRA_ACCOUNTS = (
    "promotions",
    "adjustments",
    "provider:stars",
    "refunds",
    "receivable",
    *(f"revenue:{shard:02d}" for shard in range(16)),
)
