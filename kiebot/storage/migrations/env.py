"""Alembic's environment: run by kiebot.storage.migrate on a connection it gives, never by hand on a URL."""

from __future__ import annotations

from alembic import context

from kiebot.storage.models import metadata

connection = context.config.attributes["connection"]
context.configure(connection=connection, target_metadata=metadata, transaction_per_migration=False)
with context.begin_transaction():
    context.run_migrations()
