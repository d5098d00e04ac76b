"""How Alembic runs the steps: on the engine it is handed, one migrator at a time."""

from __future__ import annotations

from alembic import context
from sqlalchemy import Engine, text

from responders.store.tables import metadata

_LOCK = 0x77617463686B  # any number, the same in every process


def _run() -> None:
    engine: Engine = context.config.attributes["engine"]
    with engine.begin() as connection:
        if connection.dialect.name == "postgresql":
            connection.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": _LOCK})
        context.configure(connection=connection, target_metadata=metadata, transactional_ddl=True)
        with context.begin_transaction():
            context.run_migrations()


_run()
