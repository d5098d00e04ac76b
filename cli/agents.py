"""`agents`: how every agent stands, and what is done about it."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any

import typer
from aiokafka.errors import KafkaError
from rich import box
from rich.table import Table
from rich.text import Text

from cli.acting import must_exist
from cli.common import Bootstrap, Config, DataDir, Json, print_json, settings_from, stdout
from cli.errors import UserError
from config.settings import Settings

_PANEL = "Incidents and containment"
_COLOURS = {"healthy": "green", "degraded": "yellow", "unhealthy": "red", "cannot tell": "dim"}
_WORST_FIRST = ("unhealthy", "degraded", "cannot tell", "healthy")


def register(app: typer.Typer) -> None:
    """Adds the command to the command line."""
    app.command(rich_help_panel=_PANEL)(agents)


def agents(
    config: Config = None, data_dir: DataDir = None, bootstrap: Bootstrap = None, as_json: Json = False
) -> None:
    """How every agent stands: its health, the part that is worst, and since when; the worst agent first.

    Health comes from the topic agent.health, open incidents and containment from the store.
    """
    from api.adapters import StoreIncidents
    from responders import actions

    settings = settings_from(config, data_dir, bootstrap)
    must_exist(settings)
    responder = actions.connect(settings)
    try:
        rows = StoreIncidents(responder.store, asyncio.run(_health(settings))).agents()
    finally:
        responder.store.close()
    if as_json:
        print_json(rows)
    elif not rows:
        stdout.print("no agents yet: none has sent events, or the stream worker does not run")
    else:
        stdout.print(table(rows))


async def _health(settings: Settings) -> Any:
    from api.health import read
    from config.kafka import client_options

    try:
        return await read(client_options(settings.kafka))
    except KafkaError as error:
        raise UserError(
            f"cannot read agent.health at {settings.kafka.bootstrap} ({type(error).__name__}): is the engine "
            "running? Give --bootstrap HOST:PORT, as the READY line of watchkeeper up has it"
        ) from None


def table(rows: Sequence[Mapping[str, Any]]) -> Table:
    """Agents as `/v1/agents` lists them, for a person, in a terminal of 80 columns too."""
    shown = Table(box=box.SIMPLE_HEAD, padding=(0, 1), pad_edge=False)
    shown.add_column("agent", overflow="fold", min_width=16)
    shown.add_column("health\nsince (UTC)", no_wrap=True)
    for name in ("worst part", "end to end"):
        shown.add_column(name, overflow="fold")
    shown.add_column("open incidents\norder", no_wrap=True)  # what is typed next
    for row in sorted(rows, key=_rank):
        health = row["health"]
        state = "cannot tell" if health is None else health["state"]
        since = "" if health is None else (health["since"] or health["time"])[5:19].replace("T", " ")
        score = "" if health is None or health["score"] is None else f" {health['score']:.0f}"
        held = {each["state"]["mode"] for each in row["commands"]} - {"run"}
        shown.add_row(
            Text(f"{row['tenant']}/{row['agent']}"),
            Text(state, style=_COLOURS[state]).append(score, style="default").append(f"\n{since}".rstrip()),
            _worst(health),
            _end_to_end(health),
            "\n".join([*row["open_incidents"], *sorted(held)]) or "-",
        )
    return shown


def _rank(row: Mapping[str, Any]) -> tuple[int, float, str, str]:
    health = row["health"] or {"state": "cannot tell", "score": None}
    score = 100.0 if health["score"] is None else health["score"]
    return _WORST_FIRST.index(health["state"]), score, row["tenant"], row["agent"]


def _worst(health: Mapping[str, Any] | None) -> str:
    """The part that costs most, and what was seen of it."""
    judged = {
        name: part for name, part in _parts(health).items() if part["weight"] and part["score"] is not None
    }
    if not judged:
        return "-"
    name = min(judged, key=lambda each: (judged[each]["score"], -judged[each]["weight"]))
    part = judged[name]
    if part["score"] == 100.0:
        return "-"
    seen = [f"{part[key]:.3g}" for key in ("expected", "observed") if part[key] is not None]
    return f"{name} {' → '.join(seen)}" if part["observed"] != part["expected"] else name


def _end_to_end(health: Mapping[str, Any] | None) -> str:
    """Completed sessions, beside what the success of each step would make of them."""
    part = _parts(health).get("end_to_end")
    if part is None or part["state"] != "shown":
        return "-"
    steps = _parts(health)["step_success"]["observed"]
    return f"{part['observed']:.0%}" + (f" (steps {steps:.1%})" if steps is not None else "")


def _parts(health: Mapping[str, Any] | None) -> Mapping[str, Mapping[str, Any]]:
    return {} if health is None else health["parts"]
