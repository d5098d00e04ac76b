"""`channels list` and `channels test`: where pages can go, and whether they arrive."""

from __future__ import annotations

import asyncio
import contextlib
import getpass
import secrets
import sys
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from cli.common import Config, Json, print_json, settings_from, stdout
from cli.errors import UserError

if TYPE_CHECKING:
    from config.settings import Settings
    from responders.channels.trial import Tried

app = typer.Typer(no_args_is_help=True, rich_markup_mode="markdown")


def register(to: typer.Typer) -> None:
    """Adds these commands to the command line."""
    to.add_typer(
        app,
        name="channels",
        rich_help_panel="Set up",
        help="Where pages go: list it, try it with a test page.",
    )


@app.command("list")
def list_channels(config: Config = None, as_json: Json = False) -> None:
    """The channels that are set up or named in the policy, by the names that a policy has for them."""
    from responders import actions
    from responders.channels import opening as channels

    settings = settings_from(config)
    policy = actions.installation_policy(settings)
    missing = channels.unknown(policy, settings)
    found = [
        {"name": name, "set_up": name not in missing, "named_in_policy": name in policy.channels}
        for name in dict.fromkeys((*channels.names(settings), *policy.channels, *missing))
    ]
    if as_json:
        print_json(found)
        return
    table = Table("channel", "set up", "named in the policy")
    for each in found:
        table.add_row(
            str(each["name"]), *("yes" if each[key] else "no" for key in ("set_up", "named_in_policy"))
        )
    stdout.print(table)


@app.command("test")
def try_channel(
    name: Annotated[str, typer.Argument(metavar="NAME", help="As listed by: watchkeeper channels list")],
    config: Config = None,
    as_json: Json = False,
) -> None:
    """Sends a page that says it is a test, then that it is over; exit 1 when it does not arrive."""
    from responders.effects import Delivered

    # The terminal is a channel too: its page must not stand before the JSON.
    with contextlib.redirect_stdout(sys.stderr) if as_json else contextlib.nullcontext():
        tried = asyncio.run(_try(settings_from(config), name))
    failed = next(
        (each for each in (tried.page, tried.over) if each is not None and not isinstance(each, Delivered)),
        None,
    )
    if as_json:
        reason = None if failed is None else failed.reason
        print_json({"channel": name, "delivered": isinstance(tried.page, Delivered), "failed": reason})
    if failed is not None:
        what = "the test page" if failed is tried.page else "that it is over"
        raise UserError(f"{name} did not take {what} ({failed.reason}): run watchkeeper doctor")
    if not as_json:
        stdout.print(f"{name} took the test page, and that it is over", markup=False)


async def _try(settings: Settings, name: str) -> Tried:
    from responders.channels import opening as channels
    from responders.channels import trial
    from responders.policy import DEFAULT

    wanted = DEFAULT.with_channels(name)
    if channels.unknown(wanted, settings):
        raise UserError(
            f"no channel {name} is set up: use one of {', '.join(channels.names(settings))}, or set it up as"
            " docs/channels.md shows"
        )
    async with channels.open_channels(settings, wanted) as opened:
        return await trial.try_channel(
            opened[name], getpass.getuser(), secrets.token_hex(4), datetime.now(UTC)
        )
