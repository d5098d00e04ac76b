"""The store's schema, step by step. `upgrade` brings a database to the newest one; it may run at any time."""

from __future__ import annotations

from pathlib import Path
from threading import Lock

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Engine
from sqlalchemy.exc import DatabaseError

from responders.store.database import READ, StoreError, make_engine, sqlite_file

_ALONE = Lock()
"""Alembic keeps its environment in module globals; other processes are kept out by the database."""


def upgrade(url: str) -> None:
    """Bring the database at ``url`` to the newest schema. Several may do so at once.

    Raises:
        StoreError: the database cannot be reached or written.
    """
    engine = make_engine(url)
    config = _config()
    config.attributes["engine"] = engine
    try:
        with _ALONE:
            command.upgrade(config, "head")
    except DatabaseError as error:
        raise _unusable(engine, error) from None
    finally:
        engine.dispose()


def revisions(url: str) -> tuple[str | None, str | None]:
    """The schema the database at ``url`` has (None: none yet) and the newest there is. Changes nothing.

    Raises:
        StoreError: the database cannot be reached.
    """
    engine = make_engine(url)
    try:
        with engine.connect().execution_options(**{READ: True}) as connection:
            present = MigrationContext.configure(connection).get_current_revision()
    except DatabaseError as error:
        raise _unusable(engine, error) from None
    finally:
        engine.dispose()
    return present, ScriptDirectory.from_config(_config()).get_current_head()


def exists(url: str) -> bool:
    """Whether there is a store at ``url``, made by whatever runs the engine. Makes none.

    Raises:
        StoreError: the database cannot be reached.
    """
    file = sqlite_file(url)
    return (file is None or file.is_file()) and revisions(url)[0] is not None


def _config() -> Config:
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent))
    return config


def _unusable(engine: Engine, error: DatabaseError) -> StoreError:
    cause = str(error.orig).strip().splitlines()[0]
    where = engine.url.render_as_string(hide_password=True)
    what = "check that it runs and is writable"
    if "locked" in cause:
        what = "another process has held it all the while: try again, and see what that one does"
    elif "not a database" in cause:
        what = "this file is none of Watchkeeper's: give another --data-dir or WATCHKEEPER_DATABASE__URL"
    return StoreError(f"cannot open the store at {where} ({cause}): {what}")
