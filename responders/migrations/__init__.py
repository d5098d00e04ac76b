"""The store's schema, step by step. `upgrade` brings a database to the newest one; it may run at any time."""

from __future__ import annotations

from pathlib import Path
from threading import Lock

from alembic import command
from alembic.config import Config
from sqlalchemy.exc import OperationalError

from responders.database import StoreError, make_engine

_ALONE = Lock()
"""Alembic keeps its environment in module globals; other processes are kept out by the database."""


def upgrade(url: str) -> None:
    """Bring the database at ``url`` to the newest schema. Several may do so at once.

    Raises:
        StoreError: the database cannot be reached or written.
    """
    engine = make_engine(url)
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent))
    config.attributes["engine"] = engine
    try:
        with _ALONE:
            command.upgrade(config, "head")
    except OperationalError as error:
        cause = str(error.orig).strip().splitlines()[0]
        where = engine.url.render_as_string(hide_password=True)
        raise StoreError(
            f"cannot open the store at {where} ({cause}): check that it runs and is writable"
        ) from None
    finally:
        engine.dispose()
