"""What commands that act on the store share: the responder of the settings, and who acts."""

from __future__ import annotations

import contextlib
import getpass
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from cli.common import settings_from
from cli.errors import UserError

if TYPE_CHECKING:
    from responders.handle import Responder


@contextlib.contextmanager
def responder_of(config: Path | None, data_dir: Path | None) -> Iterator[Responder]:
    """The store of the settings, closed afterwards; what is not possible ends in one line."""
    from responders import actions
    from responders.decide import ActionRefused

    settings = settings_from(config, data_dir)
    responder = actions.connect(settings)
    try:
        yield responder
    except ActionRefused as error:
        raise UserError(str(error)) from None
    finally:
        responder.store.close()


def person() -> str:
    """Who acts, as the log names them."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # no such user, as in a container
        return "command line"
