"""`drill`, `backtest`, `demo`: known failures, recorded events, and the main job to watch."""

from __future__ import annotations

import asyncio
import difflib
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import typer
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from cli import completion
from cli.common import Bootstrap, Config, DataDir, Json, print_json, settings_from, stderr, stdout
from cli.errors import UserError

_PANEL = "Try it"
_KAFKA_PREFIX = "kafka:"
_BOOTSTRAP_VARIABLE = "WATCHKEEPER_KAFKA__BOOTSTRAP"


def register(app: typer.Typer) -> None:
    """Adds these commands to the command line."""
    for command in (demo, drill, backtest):
        app.command(rich_help_panel=_PANEL)(command)


def backtest(
    files: Annotated[
        list[str],
        typer.Argument(metavar="FILE", help="JSON lines of agent events (gzip allowed), or kafka:TOPIC."),
    ],
    config: Config = None,
    bootstrap: Bootstrap = None,
    policy: Annotated[
        Path | None,
        typer.Option("--policy", metavar="FILE", help="Hold agents to its objectives.  [WATCHKEEPER_POLICY]"),
    ] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Detections as JSON lines and nothing else.")
    ] = False,
) -> None:
    """Recorded events through the same detectors, as fast as they go, with no side effect.

    Exit 1 if nothing in the input could be read as an event.
    """
    from cli.backtest import Line, Totals
    from cli.backtest import backtest as run
    from config import objectives
    from schemas.detection import DETECTION

    settings = settings_from(config, bootstrap=bootstrap)
    for name in files:
        if not name.startswith(_KAFKA_PREFIX) and not Path(name).is_file():
            raise UserError(f"no file {name}: give JSON-lines files of agent events, or kafka:TOPIC")
    promised = objectives.load(policy or settings.policy)
    totals = Totals()
    table = Table("time", "detector", "severity", "agent", "session", "what")
    bar = Progress(
        TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TimeRemainingColumn(), console=stderr
    )

    def lines() -> Iterator[Line]:
        from cli.backtest import from_file, from_topic

        for name in files:
            if name.startswith(_KAFKA_PREFIX):
                yield from asyncio.run(from_topic(settings, name.removeprefix(_KAFKA_PREFIX)))
                continue
            path = Path(name)
            task = bar.add_task(path.name, total=path.stat().st_size)
            for number, line in enumerate(from_file(path)):
                if number % 1000 == 0:
                    bar.update(task, completed=line.read_bytes)
                yield line
            bar.update(task, completed=path.stat().st_size)

    with bar:
        stream = settings.stream
        options = {"window_ms": stream.window_ms, "lateness_ms": stream.lateness_ms}
        for found in run(lines(), totals, objectives=promised, **options):
            if as_json:
                sys.stdout.write(DETECTION.dump_json(found).decode() + "\n")
                continue
            when = found.time.isoformat(timespec="seconds")
            table.add_row(
                when, found.detector, found.severity, found.agent, found.session or "", found.summary
            )
    if not as_json:
        if totals.detections:
            stdout.print(table)
        stdout.print(
            f"{totals.events:,} events, {totals.detections:,} detections, {totals.refused:,} refused"
        )
    for reason, count in sorted(totals.reasons.items(), key=lambda entry: -entry[1])[:5]:
        stderr.print(f"refused {count:,}: {reason}", markup=False)
    if totals.events == 0:
        raise UserError("no event could be read: give JSON lines of agent.event/1, see schemas/generated")


def drill(
    names: Annotated[
        list[str] | None,
        typer.Argument(metavar="NAME", help="Which failures to replay.", autocompletion=completion.drills),
    ] = None,
    every: Annotated[bool, typer.Option("--all", help="Every drill there is.")] = False,
    config: Config = None,
    data_dir: DataDir = None,
    bootstrap: Annotated[
        str | None,
        typer.Option("--bootstrap", metavar="HOST:PORT", help="A running engine's Kafka.  [start one]"),
    ] = None,
    http: Annotated[
        str | None,
        typer.Option(
            "--http", metavar="URL", help="Its HTTP API, where /v1/allow is.  [http://127.0.0.1:8080]"
        ),
    ] = None,
    seed: Annotated[int, typer.Option("--seed", help="Makes a drill repeatable.")] = 3,
    as_json: Json = False,
) -> None:
    """Replays a named failure and scores it: detected, contained, how soon, what was done after the stop, and
    what the log of the incident proves of it.

    Against the engine at --bootstrap or WATCHKEEPER_KAFKA__BOOTSTRAP (give its --data-dir too: agents must
    trust its keys; and --http, when that is not on port 8080), or else against an engine of its own that is
    started and stopped for it. Without a name it lists the drills. Exit 1 if one failed.
    """
    from cli.drill import run
    from cli.engine import run_until_told
    from drills.catalogue import BY_NAME, DRILLS

    unknown = [name for name in names or () if name not in BY_NAME]
    if unknown:
        meant = difflib.get_close_matches(unknown[0], BY_NAME, n=1)
        hint = f"did you mean {meant[0]}?" if meant else "see watchkeeper drill"
        raise UserError(f"no drill {unknown[0]}: {hint}")
    chosen = DRILLS if every else tuple(BY_NAME[name] for name in names or ())
    if not chosen:
        _list_drills(as_json)
        return
    settings = settings_from(config, data_dir, bootstrap)
    scores = run_until_told(
        run(
            settings,
            chosen,
            seed=seed,
            own_engine=bootstrap is None and _BOOTSTRAP_VARIABLE not in os.environ,
            quiet=as_json,
            http=http,
        )
    )
    if as_json:
        print_json([score.as_dict() for score in scores])
    else:
        from cli.drill_view import render

        stdout.print(render(scores))
    if not all(score.passed for score in scores):
        raise typer.Exit(1)


def demo(
    seed: Annotated[int, typer.Option("--seed", help="Makes the demo repeatable.")] = 3,
    plain: Annotated[bool, typer.Option("--plain", help="Lines instead of a live picture.")] = False,
) -> None:
    """The main job, live in this terminal, within 90 seconds.

    Starts the engine on embedded defaults and a small healthy fleet, replays the $47,000 clarification loop
    and the silent refusals, and shows what is detected, paged and stopped. Exit 0 only if all of it was.
    """
    from cli.demo import run
    from cli.engine import run_until_told

    if not run_until_told(run(seed=seed, plain=plain or not stdout.is_terminal)):
        raise typer.Exit(1)


def _list_drills(as_json: bool) -> None:
    from drills.catalogue import DRILLS

    if as_json:
        print_json([{"drill": d.name, "requirement": d.requirement, "story": d.story} for d in DRILLS])
        return
    table = Table("R", "drill", "what happened", "found by")
    for entry in DRILLS:
        table.add_row(str(entry.requirement), entry.name, entry.story, " or ".join(entry.detectors))
    stdout.print(table)
    stdout.print("Run one with: watchkeeper drill NAME    all: watchkeeper drill --all")
