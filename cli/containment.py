"""Containment by hand: stop an agent, hold it back or step it down, and let it run again.

An order only ever adds to what is wanted of a target already; `resume` takes all of it back.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cli import completion
from cli.acting import NOT_TAKEN, person, responder_of, taken_up
from cli.common import Config, DataDir, Json, print_json, say, stdout
from cli.errors import UserError

if TYPE_CHECKING:
    from responders.incident import Incident
    from schemas.control import ControlState, Target

_PANEL = "Incidents and containment"

Reason = Annotated[str, typer.Option("--reason", help="Goes into the log and onto the command.")]
TargetName = Annotated[
    str,
    typer.Argument(
        metavar="TARGET",
        help="AGENT, TENANT/AGENT or TENANT/AGENT/SESSION; 'TENANT/*' is every agent.",
        autocompletion=completion.targets,
    ),
]


def register(app: typer.Typer) -> None:
    """Adds these commands to the command line."""
    for command in (halt, require_approval, degrade, throttle, revoke, budget, resume):
        app.command(rich_help_panel=_PANEL)(command)


def halt(
    target: Annotated[
        str | None,
        typer.Argument(
            metavar="TARGET",
            help="AGENT, TENANT/AGENT or TENANT/AGENT/SESSION.",
            autocompletion=completion.targets,
        ),
    ] = None,
    everyone: Annotated[
        bool, typer.Option("--all", help="The global stop: every agent of the tenant.")
    ] = False,
    tenant: Annotated[
        str | None,
        typer.Option("--tenant", help="With --all: whose agents; '*' for those of every tenant.  [default]"),
    ] = None,
    reason: Reason = "ordered by hand",
    config: Config = None,
    data_dir: DataDir = None,
    as_json: Json = False,
) -> None:
    """Stops an agent, one session of it, or with --all every agent. The running responder carries it out."""
    from schemas.control import ControlState

    if (target is None) != everyone:
        raise UserError("say whom: watchkeeper halt TENANT/AGENT, or watchkeeper halt --all")
    if tenant is not None and (not everyone or "/" in tenant):
        raise UserError("--tenant takes a tenant's name and goes with --all: else write halt TENANT/AGENT")
    whom = f"{'default' if tenant is None else tenant}/*" if target is None else target
    _order(whom, ControlState(mode="halt"), reason, config, data_dir, as_json)


def require_approval(
    target: TargetName,
    reason: Reason = "ordered by hand",
    config: Config = None,
    data_dir: DataDir = None,
    as_json: Json = False,
) -> None:
    """Has an agent ask a person before each call: one without the id of an approval is denied."""
    from schemas.control import ControlState

    _order(target, ControlState(mode="require_approval"), reason, config, data_dir, as_json)


def degrade(
    target: TargetName,
    level: Annotated[
        str,
        typer.Argument(metavar="LEVEL", help="rag, keyword or static.", autocompletion=completion.rungs),
    ],
    reason: Reason = "ordered by hand",
    config: Config = None,
    data_dir: DataDir = None,
    as_json: Json = False,
) -> None:
    """Has an agent step down: to retrieval only, keyword search, or static answers."""
    from responders.containment import RUNGS
    from schemas.control import ControlState

    rung = next((rung for rung in RUNGS[1:] if rung == level), None)
    if rung is None:
        raise UserError(f"{level!r} is not a level: use {', '.join(RUNGS[1:])}")
    _order(target, ControlState(mode="degrade", ladder=rung), reason, config, data_dir, as_json)


def throttle(
    target: TargetName,
    calls_per_minute: Annotated[int, typer.Argument(metavar="CALLS_PER_MINUTE", min=0, help="At most.")],
    reason: Reason = "ordered by hand",
    config: Config = None,
    data_dir: DataDir = None,
    as_json: Json = False,
) -> None:
    """Slows an agent down. Its sessions share the rate; with 'TENANT/*' each agent has its own."""
    from schemas.control import ControlState

    state = ControlState(mode="throttle", calls_per_minute=calls_per_minute)
    _order(target, state, reason, config, data_dir, as_json)


def revoke(
    target: TargetName,
    tools: Annotated[list[str], typer.Argument(metavar="TOOL", help="As the agent's events name them.")],
    reason: Reason = "ordered by hand",
    config: Config = None,
    data_dir: DataDir = None,
    as_json: Json = False,
) -> None:
    """Takes tools away from an agent, which otherwise goes on."""
    from responders.containment import without_tools

    _order(target, without_tools(tools), reason, config, data_dir, as_json)


def budget(
    target: TargetName,
    usd: Annotated[float | None, typer.Option("--usd", min=0, help="US dollars a session.")] = None,
    tokens: Annotated[int | None, typer.Option("--tokens", min=0, help="Tokens a session.")] = None,
    steps: Annotated[int | None, typer.Option("--steps", min=0, help="Steps a session.")] = None,
    reason: Reason = "ordered by hand",
    config: Config = None,
    data_dir: DataDir = None,
    as_json: Json = False,
) -> None:
    """Caps what each session of an agent may use, what it has used already included."""
    from responders.containment import within_budget

    if usd is None and tokens is None and steps is None:
        raise UserError("say how much: watchkeeper budget TARGET --usd 5, --tokens 100000 or --steps 15")
    state = within_budget(cost_usd=usd, tokens=tokens, steps=steps)
    _order(target, state, reason, config, data_dir, as_json)


def resume(
    target: TargetName,
    reason: Reason = "ordered by hand",
    config: Config = None,
    data_dir: DataDir = None,
    as_json: Json = False,
) -> None:
    """Lets an agent run again, whoever stopped it. Needs the operator's key, which the responder has.

    The global stop is lifted with: watchkeeper resume 'TENANT/*'
    """
    from responders import actions
    from responders.containment import parse_target
    from responders.pages.wording import resumed

    with responder_of(config, data_dir) as responder:
        released = actions.resume(responder, target, person(), reason)
        asked = parse_target(target)
        wider = actions.still_held_by(responder, asked)
        taken = taken_up(responder, released or (asked,))
    if as_json:
        print_json(
            {
                "targets": [each.model_dump(mode="json", exclude_none=True) for each in released],
                "still_held_by": [each.model_dump(mode="json", exclude_none=True) for each in wider],
                "on_the_bus": taken,
            }
        )
    else:
        stdout.print(
            resumed(asked.key, [each.key for each in released], [each.key for each in wider]),
            soft_wrap=True,
            markup=False,
        )
    if not taken:
        say(NOT_TAKEN)


def _order(
    target: str,
    state: ControlState,
    reason: str,
    config: Path | None,
    data_dir: Path | None,
    as_json: bool,
) -> None:
    """Has the target held in the state, and says what is wanted of it now, by this incident."""
    from responders import actions
    from responders.containment import describe, parse_target

    with responder_of(config, data_dir) as responder:
        done = actions.contain(responder, target, state, person(), reason)
        whom = parse_target(target)
        taken = taken_up(responder, [whom])
    wanted = _wanted(done, whom, state)
    if as_json:
        print_json(
            {
                "incident_id": done.incident_id,
                "target": whom.model_dump(mode="json", exclude_none=True),
                "wanted": wanted.model_dump(mode="json", exclude_none=True),
                "on_the_bus": taken,
            }
        )
    else:
        name = whom.key if whom.agent != "*" else f"every agent of {_tenants(whom.tenant)}"
        look = f"see watchkeeper incident {done.incident_id}"
        stdout.print(
            f"{name} is to {describe(wanted)} ({done.incident_id}); {look}", soft_wrap=True, markup=False
        )
    if not taken:
        say(NOT_TAKEN)


def _wanted(incident: Incident, target: Target, ordered: ControlState) -> ControlState:
    held = incident.containment_of(target)
    return ordered if held is None else held.wanted


def _tenants(tenant: str) -> str:
    return "every tenant" if tenant == "*" else tenant
