"""`watchkeeper`: the command line. Every command imports what it needs when it runs, so `--help` is quick."""

from __future__ import annotations

import sys

import typer

from cli import agents, channels, containment, engine, fake_slack, incidents, policy, replay, setup
from config.errors import CorrectableError

app = typer.Typer(
    name="watchkeeper",
    help="Finds AI agents that fail in silence, pages on-call and stops them.",
    epilog="Start with: watchkeeper up    See it work: watchkeeper demo",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
)

engine.register(app)
incidents.register(app)
containment.register(app)
agents.register(app)
replay.register(app)
policy.register(app)
channels.register(app)
setup.register(app)
fake_slack.register(app)


def run() -> None:
    """The entry point: what a user can cause ends in one line on standard error and exit 1."""
    try:
        app()
    except CorrectableError as error:
        sys.stderr.write(f"watchkeeper: {error}\n")
        sys.exit(1)


if __name__ == "__main__":
    run()
