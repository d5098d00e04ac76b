"""Incidents, their runbooks, and containment by hand: what a person reads and does."""

from __future__ import annotations

import contextlib
import getpass
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markdown import Markdown
from rich.table import Table

from cli.common import Config, DataDir, Json, print_json, settings_from, stdout
from cli.errors import UserError

if TYPE_CHECKING:
    from responders.handle import Responder

_PANEL = "Incidents and containment"
_SIGNS = {"critical": "[red]critical[/]", "warning": "[yellow]warning[/]", "info": "info"}

IncidentId = Annotated[str, typer.Argument(metavar="ID", help="As in watchkeeper incidents.")]
Reason = Annotated[str, typer.Option("--reason", help="Goes into the log and onto the command.")]
ForTarget = Annotated[
    str | None, typer.Option("--target", help="Only for this one, as watchkeeper incident shows it.")
]
TargetName = Annotated[
    str, typer.Argument(metavar="TARGET", help="AGENT, TENANT/AGENT or TENANT/AGENT/SESSION.")
]


def register(app: typer.Typer) -> None:
    """Adds these commands to the command line."""
    commands = (incidents, incident, runbook, ack, approve, deny, resolve, silence, halt, resume, degrade)
    for command in commands:
        app.command(rich_help_panel=_PANEL)(command)


def incidents(
    config: Config = None,
    data_dir: DataDir = None,
    open_only: Annotated[bool, typer.Option("--open", help="Only those not resolved.")] = False,
    limit: Annotated[int, typer.Option("--limit", min=1, help="At most this many, newest first.")] = 200,
    as_json: Json = False,
) -> None:
    """Lists the incidents, newest first."""
    from responders import projections

    with _responder(config, data_dir) as responder:
        rows = projections.incidents(responder.store, open_only=open_only, limit=limit)
    if as_json:
        print_json([row.model_dump(mode="json") for row in rows])
        return
    if not rows:
        stdout.print("no incidents")
        return
    table = Table("id", "opened", "severity", "state", "contained", "agent", "what")
    for row in rows:
        table.add_row(
            row.incident_id,
            f"{row.opened_at:%Y-%m-%d %H:%M:%S}",
            _SIGNS[row.severity],
            row.state,
            row.containment,
            f"{row.tenant}/{row.agent}",
            row.headline,
        )
    stdout.print(table)


def incident(
    incident_id: IncidentId,
    at: Annotated[
        datetime | None,
        typer.Option(
            "--at",
            formats=["%Y-%m-%dT%H:%M:%S%z", "%Y-%m-%dT%H:%M:%S.%f%z"],
            help="As it was then, RFC 3339.",
        ),
    ] = None,
    config: Config = None,
    data_dir: DataDir = None,
    as_json: Json = False,
) -> None:
    """One incident with its log, now or as it was at any time."""
    from responders import projections

    with _responder(config, data_dir) as responder:
        view = projections.incident(responder.store, incident_id, at)
    if as_json:
        print_json(view.model_dump(mode="json"))
        return
    from cli.incident_view import render

    stdout.print(render(view))


def runbook(
    name: Annotated[
        str | None, typer.Argument(metavar="[NAME]", help="A detector, as the page names it.")
    ] = None,
    as_json: Json = False,
) -> None:
    """What a detection means, what to look at, what to do, and when it is wrong. Without a name: the list."""
    from responders.runbooks import runbook as text_of
    from responders.runbooks import sections

    if name is None:
        if as_json:
            print_json(sections())
        else:
            stdout.print("\n".join(sections()))
    elif as_json:
        print_json({"runbook": name, "markdown": text_of(name)})
    else:
        stdout.print(Markdown(f"# {name}\n\n{text_of(name)}"))


def ack(incident_id: IncidentId, config: Config = None, data_dir: DataDir = None) -> None:
    """Says that you are on it."""
    from responders import actions

    with _responder(config, data_dir) as responder:
        done = actions.acknowledge(responder, incident_id, _person())
    stdout.print(f"{done.incident_id} is {done.state}")


def approve(
    incident_id: IncidentId,
    target: ForTarget = None,
    config: Config = None,
    data_dir: DataDir = None,
) -> None:
    """Has the containment carried out that the incident proposed."""
    from responders import actions

    with _responder(config, data_dir) as responder:
        done = actions.approve(responder, incident_id, _person(), target)
    stdout.print(f"{done.incident_id}: {done.containment}")


def deny(
    incident_id: IncidentId,
    target: ForTarget = None,
    reason: Reason = "",
    config: Config = None,
    data_dir: DataDir = None,
) -> None:
    """Says no to the containment that the incident proposed."""
    from responders import actions

    with _responder(config, data_dir) as responder:
        done = actions.deny(responder, incident_id, _person(), reason, target)
    stdout.print(f"{done.incident_id}: what it proposed is not done")


def silence(
    what: Annotated[str, typer.Argument(metavar="WHAT", help="An incident, AGENT or TENANT/AGENT; * fits.")],
    minutes: Annotated[float, typer.Option("--minutes", min=1, help="For so long.")] = 60,
    detector: Annotated[str | None, typer.Option("--detector", help="Only what it detects.")] = None,
    reason: Reason = "",
    config: Config = None,
    data_dir: DataDir = None,
) -> None:
    """Keeps an incident, or an agent, from paging for a while. It is all logged, and what is still open by
    then is paged.
    """
    from responders import actions

    with _responder(config, data_dir) as responder:
        done = actions.silence(responder, what, _person(), minutes, reason, detector)
    concerned = f" ({', '.join(done.incidents)})" if done.silence_id and done.incidents else ""
    stdout.print(f"{what} is silent until {done.until:%Y-%m-%d %H:%M:%S} UTC{concerned}")


def resolve(
    incident_id: IncidentId,
    false_alarm: Annotated[bool, typer.Option("--false-alarm", help="There was nothing.")] = False,
    reason: Reason = "",
    config: Config = None,
    data_dir: DataDir = None,
) -> None:
    """Closes an incident. What is contained stays contained until it is resumed."""
    from responders import actions

    with _responder(config, data_dir) as responder:
        close = actions.false_alarm if false_alarm else actions.resolve
        done = close(responder, incident_id, _person(), reason)
    stdout.print(f"{done.incident_id} is {done.state}")


def halt(
    target: Annotated[
        str | None, typer.Argument(metavar="[TARGET]", help="AGENT, TENANT/AGENT or TENANT/AGENT/SESSION.")
    ] = None,
    everyone: Annotated[
        bool, typer.Option("--all", help="The global stop: every agent of the tenant.")
    ] = False,
    tenant: Annotated[str, typer.Option("--tenant", help="With --all: whose agents.")] = "default",
    reason: Reason = "ordered by hand",
    config: Config = None,
    data_dir: DataDir = None,
) -> None:
    """Stops an agent, one session of it, or with --all every agent. The running responder carries it out."""
    from responders import actions

    if (target is None) != everyone:
        raise UserError("say whom: watchkeeper halt TENANT/AGENT, or watchkeeper halt --all")
    with _responder(config, data_dir) as responder:
        if target is None:
            done = actions.halt_all(responder, _person(), reason, tenant)
        else:
            done = actions.halt(responder, target, _person(), reason)
    whom = target or f"every agent of {tenant}"
    stdout.print(f"{whom} is to halt ({done.incident_id}); see watchkeeper incident {done.incident_id}")


def resume(
    target: TargetName, reason: Reason = "ordered by hand", config: Config = None, data_dir: DataDir = None
) -> None:
    """Lets an agent run again, whoever stopped it. Needs the operator's key, which the responder has.

    The global stop is lifted with: watchkeeper resume 'TENANT/*'
    """
    from responders import actions

    with _responder(config, data_dir) as responder:
        released = actions.resume(responder, target, _person(), reason)
    stdout.print(f"{', '.join(each.key for each in released)} may run again")


def degrade(
    target: TargetName,
    level: Annotated[str, typer.Argument(metavar="LEVEL", help="rag, keyword or static.")],
    reason: Reason = "ordered by hand",
    config: Config = None,
    data_dir: DataDir = None,
) -> None:
    """Has an agent step down: to retrieval only, keyword search, or static answers."""
    from responders import actions

    with _responder(config, data_dir) as responder:
        done = actions.degrade(responder, target, level, _person(), reason)
    stdout.print(f"{target} is to step down to {level} ({done.incident_id})")


@contextlib.contextmanager
def _responder(config: Path | None, data_dir: Path | None) -> Iterator[Responder]:
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


def _person() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # no such user, as in a container
        return "command line"
