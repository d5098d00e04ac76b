"""`fake-slack`: a Slack to try the engine against, with a page to look at and to press buttons on."""

from __future__ import annotations

import asyncio
import errno
from typing import TYPE_CHECKING, Annotated, Any
from urllib.parse import urlsplit

import typer

from cli.common import Json, print_json, print_ready, say
from cli.errors import UserError

if TYPE_CHECKING:
    from responders.fake_slack import FakeSlack


def register(app: typer.Typer) -> None:
    """Adds this command to the command line."""
    app.command("fake-slack", rich_help_panel="Try it")(fake_slack)


def fake_slack(
    host: Annotated[str, typer.Option(metavar="HOST", help="Where to listen.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(metavar="PORT", min=0, max=65535, help="0 picks a free one.")] = 8099,
    events_url: Annotated[
        str | None,
        typer.Option(
            "--events-url",
            metavar="URL",
            help="Post presses and commands here, signed, as Slack does when Socket Mode is off. The engine"
            " takes them at /slack/interactions.",
        ),
    ] = None,
    as_json: Json = False,
) -> None:
    """A Slack without Slack: pages arrive on a web page, where buttons and the slash command work.

    Start it, then the engine with the variables that it prints. Open the page,
    have an agent fail (watchkeeper drill hundred-k-loop --bootstrap …), and
    press a button. What is posted is checked as Slack checks it.

    Who acts is chosen on the page. Anyone may acknowledge and halt; who may
    approve and resume is said in the policy, as for a real Slack:
    \\[roles.operator]  people = ["U0OPERATOR"]

    Prints one line READY {"base_url": …, "page": …, "environment": …}. Its tokens
    are no secrets. Ctrl-C or SIGTERM ends it, and what was posted is forgotten.
    """
    if events_url is not None and urlsplit(events_url).scheme not in ("http", "https"):
        raise UserError(
            "--events-url must be an address: what watchkeeper up prints as http, and /slack/interactions"
        )
    asyncio.run(_serve(host, port, events_url, as_json))


async def _serve(host: str, port: int, events_url: str | None, as_json: bool) -> None:
    from cli.engine import stop_on_signals
    from responders.fake_slack import FakeSlack

    stop = stop_on_signals()
    slack = FakeSlack(events_url=events_url)
    try:
        await slack.start(host, port)
    except OSError as error:
        await slack.stop()
        raise UserError(_why_not(error, host, port)) from None
    try:
        known = _known(slack)
        if as_json:
            print_json(known)
        else:
            print_ready(**known)
            _explain(known)
        await stop.wait()
    finally:
        await slack.stop()


def _why_not(error: OSError, host: str, port: int) -> str:
    if error.errno == errno.EADDRINUSE:
        return f"port {port} is taken: stop what listens there, or give --port 0 to pick a free one"
    return f"cannot listen on {host}:{port} ({error.strerror or error}): give another --host or --port"


def _known(slack: FakeSlack) -> dict[str, Any]:
    """What one must know to use it."""
    from responders.fake_slack import GOOD_APP_TOKEN, GOOD_TOKEN

    base_url = f"{slack.url}/api/"
    prefix = "WATCHKEEPER_SLACK__"
    environment = {f"{prefix}BASE_URL": base_url, f"{prefix}BOT_TOKEN": GOOD_TOKEN}
    if slack.events_url is None:
        environment[f"{prefix}APP_TOKEN"] = GOOD_APP_TOKEN
    else:
        environment[f"{prefix}SIGNING_SECRET"] = slack.signing_secret
    return {
        "base_url": base_url,
        "page": f"{slack.url}/",
        "bot_token": GOOD_TOKEN,
        "app_token": GOOD_APP_TOKEN,
        "signing_secret": slack.signing_secret,
        "environment": environment,
    }


def _explain(known: dict[str, Any]) -> None:
    variables = " ".join(f"{name}={value}" for name, value in known["environment"].items())
    say(f"Look at it:        {known['page']}")
    say(f"Start the engine:  {variables} watchkeeper up")
