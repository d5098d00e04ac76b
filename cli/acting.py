"""What commands that act on the store share: the responder of the settings, and who acts."""

from __future__ import annotations

import contextlib
import getpass
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from cli.common import say, settings_from
from cli.errors import UserError

if TYPE_CHECKING:
    from config.settings import Settings
    from responders.handle import Responder
    from responders.policy import Policy
    from schemas.control import Target

_TAKEN_UP_WITHIN_S = 5.0
_LOOK_EVERY_S = 0.05
NOT_TAKEN = (
    "watchkeeper: the order is kept, but no responder has put it on agent.control yet: nobody obeys it before"
    " one runs; see watchkeeper doctor"
)
"""An order that nobody has taken up stops nobody, though it is not lost."""


@contextlib.contextmanager
def responder_of(config: Path | None, data_dir: Path | None) -> Iterator[Responder]:
    """The store of the settings, closed afterwards; what is not possible ends in one line."""
    from responders import actions
    from responders.decide import ActionRefused

    settings = settings_from(config, data_dir)
    must_exist(settings)
    responder = actions.connect(settings, _rules(settings))
    try:
        yield responder
    except ActionRefused as error:
        raise UserError(str(error)) from None
    finally:
        responder.store.close()


def _rules(settings: Settings) -> Policy:
    """The policy; the default one where its file cannot be used, for that must keep nobody from a stop."""
    from responders import actions
    from responders.channels import opening as channels
    from responders.policy import DEFAULT, PolicyError

    try:
        return actions.installation_policy(settings)
    except PolicyError as error:
        say(f"watchkeeper: {error}; until that is mended this command goes by the default policy")
        return DEFAULT.with_channels(*channels.defaults(settings))


def must_exist(settings: Settings) -> None:
    """Refuses a store that is not there: an empty one made now would say that all is well, and what is
    ordered in it nobody carries out.

    Raises:
        UserError: nobody has made one where the settings say.
        StoreError: the database cannot be reached.
    """
    from responders.store import migrations

    if migrations.exists(settings.database_url):
        return
    if settings.database.url is None:
        raise UserError(
            f"no incident store in {settings.data_dir}: give --data-dir (or WATCHKEEPER_DATA_DIR) the data"
            " directory of the running engine, or start one with watchkeeper up"
        )
    raise UserError(
        "no incident store in the database of WATCHKEEPER_DATABASE__URL: give the running engine's, or make"
        " one with watchkeeper db upgrade"
    )


def taken_up(responder: Responder, targets: Sequence[Target]) -> bool:
    """Whether the running responder has put the newest orders for these on the bus: it is given a while."""
    from responders import wanted

    deadline = time.monotonic() + _TAKEN_UP_WITHIN_S
    while True:
        with responder.store.reading() as connection:
            if all(wanted.on_the_bus(connection, each) for each in targets):
                return True
        if time.monotonic() >= deadline:
            return False
        time.sleep(_LOOK_EVERY_S)


def person() -> str:
    """Who acts, as the log names them."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # no such user, as in a container
        return "command line"
