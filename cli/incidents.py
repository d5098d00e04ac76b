"""Incidents and their runbooks: what a person reads, and does about one."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich import box
from rich.markdown import Markdown
from rich.table import Column, Table
from rich.text import Text

from cli import completion
from cli.acting import person, responder_of
from cli.common import Config, DataDir, Json, print_json, stdout

if TYPE_CHECKING:
    from responders.incident import Incident
    from responders.store.projections import IncidentRow

_PANEL = "Incidents and containment"
_SIGNS = {"critical": "[red]critical[/]", "warning": "[yellow]warning[/]", "info": "info"}

IncidentId = Annotated[
    str,
    typer.Argument(
        metavar="ID", help="As in watchkeeper incidents.", autocompletion=completion.open_incidents
    ),
]
Reason = Annotated[str, typer.Option("--reason", help="Goes into the log and onto the command.")]
ForTarget = Annotated[
    str | None, typer.Option("--target", help="Only for this one, as watchkeeper incident shows it.")
]


def register(app: typer.Typer) -> None:
    """Adds these commands to the command line."""
    commands = (incidents, incident, runbook, ack, approve, deny, resolve, silence, unsilence, silences)
    for command in commands:
        app.command(rich_help_panel=_PANEL)(command)


def incidents(
    config: Config = None,
    data_dir: DataDir = None,
    open_only: Annotated[bool, typer.Option("--open", help="Only those not resolved.")] = False,
    limit: Annotated[int, typer.Option("--limit", min=1, help="At most this many, newest first.")] = 200,
    precision: Annotated[
        bool, typer.Option("--precision", help="How often each detector was right, by what people said.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Lists the incidents, newest first."""
    from responders.store import projections

    if precision:
        _precision(config, data_dir, as_json)
        return
    with responder_of(config, data_dir) as responder:
        rows = projections.incidents(responder.store, open_only=open_only, limit=limit)
    if as_json:
        print_json([row.model_dump(mode="json") for row in rows])
        return
    if not rows:
        stdout.print("no incidents")
        return
    stdout.print(_listed(rows))


def _listed(rows: Sequence[IncidentRow]) -> Table:
    """However narrow the terminal, the ids are whole: they are what is typed next."""
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1), pad_edge=False)
    for name in ("id", "opened (UTC)", "severity", "state"):
        table.add_column(name, no_wrap=True)
    table.add_column("what", overflow="fold")
    for row in rows:
        held = "" if row.containment == "none" else f"\norder {row.containment}"
        table.add_row(
            row.incident_id,
            f"{row.opened_at:%m-%d %H:%M:%S}",
            _SIGNS[row.severity],
            f"{row.state}{held}",
            Text(f"{row.headline}\n{row.tenant}/{row.agent}").append(_asks(row), style="yellow"),
        )
    return table


def _asks(row: IncidentRow) -> str:
    """What waits for a person's yes or no, and until when; empty when nothing does."""
    from responders.containment import describe

    lines = []
    for each in row.approvals:
        when = "" if each.until is None else f", until {each.until:%m-%d %H:%M:%S}"
        if each.unanswered_at is not None:
            when = ", which nobody has answered"
        lines.append(f"\nwaits for approval: {describe(each.proposal)} ({each.target.key}){when}")
    return "".join(lines)


def _precision(config: Path | None, data_dir: Path | None, as_json: bool) -> None:
    from responders.precision import by_detector

    with responder_of(config, data_dir) as responder:
        found = by_detector(responder.store)
    if as_json:
        print_json([each.model_dump(mode="json") for each in found])
        return
    table = Table("detector", "incidents", "open", "confirmed", "false alarms", "precision")
    for each in found:
        share = "not yet known"
        if each.precision is not None and each.low is not None and each.high is not None:
            share = f"{each.precision:.0%} ({each.low:.0%} to {each.high:.0%})"
        counts = (each.incidents, each.open, each.confirmed, each.false_alarms)
        table.add_row(each.detector, *(str(count) for count in counts), share)
    stdout.print(table)


def incident(
    incident_id: Annotated[
        str,
        typer.Argument(
            metavar="ID", help="As in watchkeeper incidents.", autocompletion=completion.incidents
        ),
    ],
    at: Annotated[
        datetime | None,
        typer.Option(
            "--at",
            metavar="TIME",
            formats=["%Y-%m-%dT%H:%M:%S%z", "%Y-%m-%dT%H:%M:%S.%f%z"],
            help="As it was then, like 2026-01-31T12:00:00Z.",
        ),
    ] = None,
    config: Config = None,
    data_dir: DataDir = None,
    as_json: Json = False,
) -> None:
    """One incident with its log, now or as it was at any time."""
    from responders.store import projections

    with responder_of(config, data_dir) as responder:
        view = projections.incident(responder.store, incident_id, at)
    if as_json:
        print_json(view.model_dump(mode="json"))
        return
    from cli.incident_view import render

    stdout.print(render(view))


def runbook(
    name: Annotated[
        str | None,
        typer.Argument(
            metavar="NAME", help="A detector, as the page names it.", autocompletion=completion.runbooks
        ),
    ] = None,
    as_json: Json = False,
) -> None:
    """What a detection means, what to look at, what to do, and when it is wrong. Without a name: the list."""
    from responders.pages.runbooks import runbook as text_of
    from responders.pages.runbooks import sections

    if name is None:
        if as_json:
            print_json(sections())
        else:
            stdout.print("\n".join(sections()))
    elif as_json:
        print_json({"runbook": name, "markdown": text_of(name)})
    else:
        stdout.print(Markdown(f"# {name}\n\n{text_of(name)}"))


def ack(
    incident_id: IncidentId, config: Config = None, data_dir: DataDir = None, as_json: Json = False
) -> None:
    """Says that you are on it."""
    from responders import actions

    with responder_of(config, data_dir) as responder:
        done = actions.acknowledge(responder, incident_id, person())
    _say(done, as_json, f"{done.incident_id} is {done.state}")


def approve(
    incident_id: IncidentId,
    target: ForTarget = None,
    config: Config = None,
    data_dir: DataDir = None,
    as_json: Json = False,
) -> None:
    """Has the containment carried out that the incident proposed."""
    from responders import actions

    with responder_of(config, data_dir) as responder:
        done = actions.approve(responder, incident_id, person(), target)
    _say(done, as_json, f"{done.incident_id} is approved; the order is on its way")


def deny(
    incident_id: IncidentId,
    target: ForTarget = None,
    reason: Reason = "",
    config: Config = None,
    data_dir: DataDir = None,
    as_json: Json = False,
) -> None:
    """Says no to the containment that the incident proposed."""
    from responders import actions

    with responder_of(config, data_dir) as responder:
        done = actions.deny(responder, incident_id, person(), reason, target)
    _say(done, as_json, f"{done.incident_id}: what it proposed is not done")


def silence(
    what: Annotated[
        str,
        typer.Argument(
            metavar="WHAT",
            help="An incident, AGENT or TENANT/AGENT; * fits.",
            autocompletion=completion.silenceable,
        ),
    ],
    minutes: Annotated[float, typer.Option("--minutes", min=1, help="For so long.")] = 60,
    detector: Annotated[
        str | None,
        typer.Option("--detector", help="Only what it detects.", autocompletion=completion.detectors),
    ] = None,
    reason: Reason = "",
    config: Config = None,
    data_dir: DataDir = None,
    as_json: Json = False,
) -> None:
    """Keeps an incident, or an agent, from paging for a while. It is all logged, and what is still open by
    then is paged. `watchkeeper unsilence` ends it before.
    """
    from responders import actions

    with responder_of(config, data_dir) as responder:
        done = actions.silence(responder, what, person(), minutes, reason, detector)
    if as_json:
        print_json(
            {
                "silence_id": done.silence_id,
                "until": done.until.isoformat().replace("+00:00", "Z"),
                "incidents": done.incidents,
            }
        )
        return
    concerned = f" ({', '.join(done.incidents)})" if done.silence_id and done.incidents else ""
    stdout.print(f"{what} is silent until {done.until:%Y-%m-%d %H:%M:%S} UTC{concerned}")


def unsilence(
    what: Annotated[
        str,
        typer.Argument(
            metavar="WHAT",
            help="An incident, a silence's id, or AGENT or TENANT/AGENT.",
            autocompletion=completion.silenced,
        ),
    ],
    config: Config = None,
    data_dir: DataDir = None,
    as_json: Json = False,
) -> None:
    """Ends a silence before its time. What it kept back is paged now, if it is open and nobody is on it."""
    from responders import actions

    with responder_of(config, data_dir) as responder:
        done = actions.unsilence(responder, what, person())
    if as_json:
        print_json({"silences": done.silences, "incidents": done.incidents})
        return
    concerned = f" ({', '.join(done.incidents)})" if done.silences and done.incidents else ""
    stdout.print(f"{what} pages again{concerned}", soft_wrap=True)


def silences(config: Config = None, data_dir: DataDir = None, as_json: Json = False) -> None:
    """Lists what is silent now, by command, for one incident or by the policy, and until when."""
    from responders.silences import in_force

    with responder_of(config, data_dir) as responder:
        found = in_force(responder)
    if as_json:
        print_json([each.model_dump(mode="json") for each in found])
        return
    if not found:
        stdout.print("nothing is silent")
        return
    table = Table(Column("until (UTC)", no_wrap=True), Column("id", no_wrap=True))
    for name in ("what", "detector", "by", "reason"):
        table.add_column(name, overflow="fold")
    for each in found:
        table.add_row(
            f"{each.until:%m-%d %H:%M:%S}",
            each.silence_id or ("" if each.kind == "policy" else each.what),
            Text("" if each.kind == "incident" else each.what),
            Text(each.detector or "all"),
            Text(each.person or "the policy"),
            Text(each.reason),
        )
    stdout.print(table)
    stdout.print("End one with: watchkeeper unsilence ID    (those of the policy: in its file)")


def resolve(
    incident_id: IncidentId,
    false_alarm: Annotated[bool, typer.Option("--false-alarm", help="There was nothing.")] = False,
    reason: Reason = "",
    config: Config = None,
    data_dir: DataDir = None,
    as_json: Json = False,
) -> None:
    """Closes an incident. What is contained stays contained until it is resumed."""
    from responders import actions

    with responder_of(config, data_dir) as responder:
        close = actions.false_alarm if false_alarm else actions.resolve
        done = close(responder, incident_id, person(), reason)
    held = [shlex.quote(each.target.key) for each in done.containments.values() if each.active]
    still = "".join(f"; still held, let it run with: watchkeeper resume {target}" for target in held)
    how = "a false alarm" if done.false_alarm else done.state
    _say(done, as_json, f"{done.incident_id} is {how}{still}")


def _say(incident: Incident, as_json: bool, words: str) -> None:
    """What has become of the incident: the words, or the fields that the HTTP API answers."""
    if as_json:
        names = ("incident_id", "state", "severity", "containment")
        print_json({name: getattr(incident, name) for name in names})
    else:
        stdout.print(words, soft_wrap=True, markup=False)
