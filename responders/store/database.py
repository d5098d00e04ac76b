"""Opening the store's database: SQLite (write-ahead log, one writer at a time, synced) or PostgreSQL."""

from __future__ import annotations

import sqlite3
from pathlib import Path

from sqlalchemy import URL, Connection, Engine, create_engine, event, make_url
from sqlalchemy.engine.interfaces import DBAPIConnection
from sqlalchemy.exc import ArgumentError, NoSuchModuleError
from sqlalchemy.pool import ConnectionPoolEntry, StaticPool

from config.errors import CorrectableError

BUSY_TIMEOUT_MS = 60_000
IDLE_IN_TRANSACTION_MS = 5_000
"""A process that is frozen in a transaction holds its locks no longer: PostgreSQL ends it for it."""
READ = "watchkeeper_read"
"""Execution option of a connection that only reads: it does not queue behind the writer."""


class StoreError(CorrectableError):
    """The store cannot be used; the message is one line that says what to do."""


def make_engine(url: str) -> Engine:
    """An engine for ``url``, with what correctness needs set on each connection.

    Raises:
        StoreError: the URL is not one of SQLite or PostgreSQL, or SQLite's folder cannot be made.
    """
    parsed = _parsed(url)
    if parsed.get_backend_name() == "postgresql":
        engine = create_engine(parsed, pool_pre_ping=True, pool_size=8)
        event.listen(engine, "connect", _prepare_postgresql)
        return engine
    if not parsed.database or parsed.database == ":memory:":
        raise StoreError("the store needs a file: use sqlite:///file")
    folder = Path(parsed.database).parent
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StoreError(f"cannot make {folder} ({error.strerror}): give a writable --data-dir") from None
    engine = create_engine(parsed, connect_args={"timeout": BUSY_TIMEOUT_MS / 1000})
    event.listen(engine, "connect", _prepare_sqlite)
    event.listen(engine, "begin", _begin_sqlite)
    return engine


def sqlite_file(url: str) -> Path | None:
    """The file that SQLite keeps the store in; None for a store on PostgreSQL. Raises StoreError."""
    parsed = _parsed(url)
    return Path(parsed.database or "") if parsed.get_backend_name() == "sqlite" else None


def _parsed(url: str) -> URL:
    try:
        parsed = make_url(url)
        if parsed.drivername in ("postgresql", "postgres"):
            parsed = parsed.set(drivername="postgresql+psycopg")
        if parsed.get_backend_name() not in ("postgresql", "sqlite"):
            raise StoreError(f"no store on {parsed.get_backend_name()}: use a sqlite or postgresql URL")
    except (ArgumentError, NoSuchModuleError):
        raise StoreError(
            "WATCHKEEPER_DATABASE__URL is not a database URL: use sqlite:///file or postgresql://…"
        ) from None
    return parsed


def memory_engine() -> Engine:
    """SQLite in memory, on one connection: gone when it is disposed of."""
    engine = create_engine("sqlite://", poolclass=StaticPool, connect_args={"check_same_thread": False})
    event.listen(engine, "connect", _prepare_sqlite)
    event.listen(engine, "begin", _begin_sqlite)
    return engine


def _prepare_postgresql(connection: DBAPIConnection, _: ConnectionPoolEntry) -> None:
    cursor = connection.cursor()
    cursor.execute(f"SET idle_in_transaction_session_timeout = {IDLE_IN_TRANSACTION_MS}")
    cursor.close()
    connection.commit()


def _prepare_sqlite(connection: DBAPIConnection, _: ConnectionPoolEntry) -> None:
    assert isinstance(connection, sqlite3.Connection)
    # The driver's own transaction handling would begin late, and deferred.
    connection.isolation_level = None
    for pragma in ("journal_mode = WAL", "synchronous = FULL", "foreign_keys = ON"):
        connection.execute(f"PRAGMA {pragma}")


def _begin_sqlite(connection: Connection) -> None:
    reads = connection.get_execution_options().get(READ, False)
    # A writer takes the lock at once: upgrading later fails without waiting when another has written.
    connection.exec_driver_sql("BEGIN" if reads else "BEGIN IMMEDIATE")
