"""`policy check`, `diff` and `explain`: is it right, what would it change, what does it say of one case."""

from __future__ import annotations

import gzip
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer
from rich.table import Table

from cli import completion
from cli.common import Config, Json, print_json, say, settings_from, stderr, stdout
from cli.errors import UserError

if TYPE_CHECKING:
    from responders.policy import Policy
    from responders.rehearsal import Consequences
    from schemas.detection import Detection

PolicyFile = Annotated[
    Path | None,
    typer.Argument(metavar="FILE", help="A policy file; else the settings' one.  [WATCHKEEPER_POLICY]"),
]

app = typer.Typer(no_args_is_help=True, rich_markup_mode="markdown")


def register(to: typer.Typer) -> None:
    """Adds these commands to the command line."""
    to.add_typer(
        app,
        name="policy",
        rich_help_panel="Incidents and containment",
        help="Who is paged and what is contained: check it, compare it, ask it.",
    )


@app.command()
def check(file: PolicyFile = None, config: Config = None, as_json: Json = False) -> None:
    """Says whether a policy can be used. What is wrong is said with file, line and key, exit 1."""
    from responders.channels.opening import must_know
    from responders.policy.doubts import never_decide

    policy, settings = _policy(file, config), settings_from(config)
    must_know(policy, settings, file)
    path = file or settings.policy
    for doubt in never_decide(policy):
        say(f"{path}: {doubt}")
    if as_json:
        print_json(policy.model_dump(mode="json", by_alias=True))
        return
    name = file or settings.policy or "the default policy"
    counts = {
        "routes": len(policy.route),
        "containment rules": len(policy.containment.rules),
        "inhibitions": len(policy.inhibit),
        "silences": len(policy.silence),
        "objectives": len(policy.objective),
        "owners": len(policy.owner),
    }
    stdout.print(
        f"{name}: usable ({', '.join(f'{count} {what}' for what, count in counts.items() if count)})"
    )


@app.command()
def explain(
    detector: Annotated[str, typer.Argument(metavar="DETECTOR", autocompletion=completion.detectors)],
    target: Annotated[
        str,
        typer.Argument(
            metavar="TARGET",
            help="AGENT, TENANT/AGENT or TENANT/AGENT/SESSION.",
            autocompletion=completion.targets,
        ),
    ],
    file: Annotated[
        Path | None, typer.Option("--policy", metavar="FILE", help="Else the settings' one.")
    ] = None,
    severity: Annotated[Literal["info", "warning", "critical"], typer.Option("--severity")] = "critical",
    suggests: Annotated[
        Literal["nothing", "throttle", "degrade", "require_approval", "halt"], typer.Option("--suggests")
    ] = "nothing",
    at: Annotated[
        datetime | None,
        typer.Option(
            "--at",
            metavar="TIME",
            formats=["%Y-%m-%dT%H:%M:%S%z"],
            help="Like 2026-01-31T12:00:00Z; now, unless given.",
        ),
    ] = None,
    config: Config = None,
    as_json: Json = False,
) -> None:
    """What the policy says about a detection: who is told when, and what is done."""
    from responders.channels import opening as channels
    from responders.containment import TargetError, parse_target
    from responders.policy.explain import explain as said_of
    from responders.policy.explain import supposed
    from responders.policy.section import no_detector
    from schemas.control import ControlState

    try:
        about = parse_target(target)
    except TargetError as error:
        raise UserError(str(error)) from None
    wrong = no_detector(detector)
    if wrong is not None:
        raise UserError(wrong)
    now = at or datetime.now(UTC)
    state = None if suggests == "nothing" else ControlState(mode=suggests)
    policy = _policy(file, config).with_channels(*channels.defaults(settings_from(config)))
    said = said_of(policy, supposed(detector, about, severity, state, now), now)
    if as_json:
        print_json(said)
        return
    table = Table(show_header=False, box=None)
    for question, answer in said.items():
        table.add_row(f"[bold]{question}[/]", answer)
    stdout.print(table)


@app.command()
def diff(
    old: Annotated[Path, typer.Argument(metavar="OLD", help="The policy as it is.")],
    new: Annotated[Path, typer.Argument(metavar="NEW", help="The policy as it would be.")],
    events: Annotated[
        list[Path],
        typer.Option("--events", metavar="FILE", help="Recorded events or detections, JSON lines."),
    ],
    answered_after: Annotated[
        float, typer.Option("--answered-after", min=0, help="Minutes to somebody being on it; 0: nobody.")
    ] = 5.0,
    config: Config = None,
    as_json: Json = False,
) -> None:
    """What another policy would have paged and contained, from what was recorded, by the code that runs
    live.
    """
    from responders.rehearsal import differences, rehearse

    after = timedelta(minutes=answered_after) if answered_after else None
    before_policy, after_policy = _policy(old, None), _policy(new, None)
    seen = list(_detections(events, before_policy, config))
    same = before_policy.objective == after_policy.objective
    seen_new = seen if same else list(_detections(events, after_policy, config))
    left, right = rehearse(before_policy, seen, after), rehearse(after_policy, seen_new, after)
    found = differences(left, right)
    if as_json:
        print_json(
            {
                "detections": len(seen_new),
                "old": left.totals(),
                "new": right.totals(),
                "differences": [
                    {
                        "detection": each.detection.model_dump(mode="json", exclude_none=True),
                        "old": _told(each.old),
                        "new": _told(each.new),
                    }
                    for each in found
                ],
            }
        )
        return
    table = Table("time", "detector", "severity", "agent", "paging", "containment")
    for each in found:
        table.add_row(
            f"{each.detection.time:%Y-%m-%d %H:%M:%S}",
            each.detection.detector,
            each.detection.severity,
            f"{each.detection.tenant}/{each.detection.agent}",
            _change(each.old.paging, each.new.paging),
            _change(each.old.containment, each.new.containment),
        )
    if found:
        stdout.print(table)
    for name, count in right.totals().items():
        stdout.print(f"{name}: {left.totals()[name]} → {count}")
    stdout.print(f"{len(found)} of {len(right.by_detection)} detections would be treated otherwise")


def _told(of: Consequences) -> dict[str, list[str]]:
    return {"paging": of.paging, "containment": of.containment}


def _change(old: list[str], new: list[str]) -> str:
    before, after = ", ".join(old) or "nothing", ", ".join(new) or "nothing"
    return before if before == after else f"[red]{before}[/] → [green]{after}[/]"


def _policy(file: Path | None, config: Path | None) -> Policy:
    """The policy of the file, or of the settings. Raises PolicyError."""
    from responders import policy

    return policy.load(file or settings_from(config).policy)


def _detections(files: list[Path], policy: Policy, config: Path | None) -> Iterator[Detection]:
    """What was recorded as detections, and what the detectors find in what was recorded as events."""
    from cli.backtest import Totals, backtest, from_file
    from schemas.detection import DETECTION

    stream = settings_from(config).stream
    for path in files:
        if not path.is_file():
            raise UserError(f"no file {path}: give JSON lines of agent events or detections")
        lines = from_file(path)
        if _holds_detections(path):
            yield from (DETECTION.validate_json(line.value) for line in lines)
            continue
        totals = Totals()
        yield from backtest(
            lines,
            totals,
            window_ms=stream.window_ms,
            lateness_ms=stream.lateness_ms,
            objectives=policy.objective,
        )
        stderr.print(f"{path}: {totals.events:,} events, {totals.refused:,} refused", markup=False)


def _holds_detections(path: Path) -> bool:
    with path.open("rb") as raw:
        packed = raw.peek(2)[:2] == b"\x1f\x8b"
        first = gzip.GzipFile(fileobj=raw).readline() if packed else raw.readline()
    return b"agent.detection/1" in first
