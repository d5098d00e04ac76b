"""`topics`, `db`, `keys`, `prepare`, `doctor`: set-up, and finding out what is wrong."""

from __future__ import annotations

import asyncio
import dataclasses
import enum
import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from cli.acting import must_exist
from cli.common import Bootstrap, Config, DataDir, Json, ensure_data_dir, print_json, settings_from, stdout

if TYPE_CHECKING:
    from config.settings import Settings

_PANEL = "Set up"

topics_app = typer.Typer(help="The bus: create and check topics.", no_args_is_help=True)
db_app = typer.Typer(help="The incident store: its tables.", no_args_is_help=True)
keys_app = typer.Typer(help="The keys that sign control commands.", no_args_is_help=True)


class KeyRole(enum.Enum):
    """Whose key."""

    ENGINE = "engine"
    OPERATOR = "operator"


def register(app: typer.Typer) -> None:
    """Adds these commands to the command line."""
    app.add_typer(topics_app, name="topics", rich_help_panel=_PANEL)
    app.add_typer(db_app, name="db", rich_help_panel=_PANEL)
    app.add_typer(keys_app, name="keys", rich_help_panel=_PANEL)
    app.command(rich_help_panel=_PANEL)(prepare)
    app.command(rich_help_panel=_PANEL)(doctor)


@topics_app.command("create")
def topics_create(config: Config = None, bootstrap: Bootstrap = None) -> None:
    """Creates the contract's topics that are missing; checks the partition counts of those that are there."""
    from streams.admin import create_topics

    settings = settings_from(config, bootstrap=bootstrap)
    created = asyncio.run(create_topics(settings.kafka))
    stdout.print(f"created {', '.join(created)}" if created else "all topics are there")


@topics_app.command("list")
def topics_list(config: Config = None, bootstrap: Bootstrap = None, as_json: Json = False) -> None:
    """Every topic of the contract: key, partitions, clean-up and what it carries."""
    from schemas.topics import TOPICS
    from streams.admin import check_topics

    settings = settings_from(config, bootstrap=bootstrap)
    counts = asyncio.run(check_topics(settings.kafka))
    if as_json:
        print_json([{"name": t.name, "partitions": counts[t.name], "cleanup": t.cleanup} for t in TOPICS])
        return
    table = Table("topic", "partitions", "key", "clean-up", "carries")
    for topic in TOPICS:
        table.add_row(topic.name, str(counts[topic.name]), topic.keyed_by, topic.cleanup, topic.purpose)
    stdout.print(table)


@db_app.command("upgrade")
def db_upgrade(config: Config = None, data_dir: DataDir = None) -> None:
    """Brings the incident store's tables to this version; safe to run again."""
    from responders.store.migrations import upgrade

    settings = settings_from(config, data_dir)
    ensure_data_dir(settings)
    upgrade(settings.database_url)
    stdout.print("the incident store is up to date")


@db_app.command("rebuild")
def db_rebuild(config: Config = None, data_dir: DataDir = None, as_json: Json = False) -> None:
    """Tells what is kept for speed from the log anew, and says how much of it was not as the log has it."""
    from responders.store.event_store import Store
    from responders.store.rebuild import rebuild

    settings = settings_from(config, data_dir)
    must_exist(settings)
    store = Store.open(settings.database_url)
    try:
        wrong = rebuild(store)
    finally:
        store.close()
    if as_json:
        print_json(wrong)
        return
    for table, rows in wrong.items():
        stdout.print(f"{table}: {f'{rows} rows put right' if rows else 'as the log says'}")


@keys_app.command("create")
def keys_create(config: Config = None, data_dir: DataDir = None) -> None:
    """Makes the engine's and the operator's key where they are missing."""
    from responders.keys import load_or_create

    settings = settings_from(config, data_dir)
    ensure_data_dir(settings)
    keys = load_or_create(settings.data_dir)
    stdout.print(f"the keys are there; give agents {keys.trusted_file}")


@keys_app.command("show")
def keys_show(config: Config = None, data_dir: DataDir = None) -> None:
    """Prints the public keys as JSON: what a client or an automated consumer trusts."""
    from responders.keys import load

    settings = settings_from(config, data_dir)
    print_json(json.loads(load(settings.data_dir).trusted_file.read_text()))


@keys_app.command("rotate")
def keys_rotate(
    role: Annotated[
        KeyRole, typer.Argument(metavar="ROLE", help="engine, or operator, whose key lifts containment.")
    ] = KeyRole.ENGINE,
    only_prepare: Annotated[
        bool,
        typer.Option(
            "--prepare",
            help="Only make and trust it; the next rotate has it sign. To copy trusted.json first.",
        ),
    ] = False,
    config: Config = None,
    data_dir: DataDir = None,
    as_json: Json = False,
) -> None:
    """Has a new key sign; the old one stays trusted until it is retired. What runs takes it up by itself."""
    from responders import keys

    settings = settings_from(config, data_dir)
    done = keys.rotate(settings.data_dir, role.value, only_prepare=only_prepare)
    if as_json:
        print_json(dataclasses.asdict(done))
        return
    old = ", ".join(key_id for key_id in done.trusted if key_id not in (done.signs, done.prepared))
    if done.prepared is None:
        said, after = f"{done.signs} signs now, {old} is trusted beside it", "retire KEY_ID"
    else:
        said, after = f"{done.prepared} is trusted, {done.signs} signs on", f"rotate {role.value}"
    copied = f"copy {_trusted_file(settings)} to where agents run"
    stdout.print(f"{said}: {copied}, then: watchkeeper keys {after}", soft_wrap=True)


@keys_app.command("retire")
def keys_retire(
    key_id: Annotated[str, typer.Argument(metavar="KEY_ID", help="As in watchkeeper keys show.")],
    config: Config = None,
    data_dir: DataDir = None,
    as_json: Json = False,
) -> None:
    """Ends the trust in a key that no longer signs: what it signed is refused from now on, and reported."""
    from responders import keys

    settings = settings_from(config, data_dir)
    done = keys.retire(settings.data_dir, key_id)
    if as_json:
        print_json(dataclasses.asdict(done))
    else:
        stdout.print(
            f"{key_id} is retired; copy {_trusted_file(settings)} to where agents run", soft_wrap=True
        )


def _trusted_file(settings: Settings) -> Path:
    return settings.data_dir / "keys" / "trusted.json"


def prepare(config: Config = None, data_dir: DataDir = None, bootstrap: Bootstrap = None) -> None:
    """Topics, tables and keys in one go; safe to run again. `up` does it by itself."""
    from cli.engine import prepare as run

    settings = settings_from(config, data_dir, bootstrap)
    ensure_data_dir(settings)
    asyncio.run(run(settings))
    stdout.print("topics, tables and keys are ready")


def doctor(
    config: Config = None,
    data_dir: DataDir = None,
    bootstrap: Bootstrap = None,
    as_json: Json = False,
    timeout_s: Annotated[float, typer.Option("--timeout", help="Seconds each check may take.")] = 10.0,
) -> None:
    """Checks every part the engine needs, says what to do about what is missing; exit 1 if something is."""
    from cli.doctor import examine

    settings = settings_from(config, data_dir, bootstrap)
    findings = asyncio.run(examine(settings, timeout_s))
    if as_json:
        print_json([finding.as_dict() for finding in findings])
    else:
        table = Table("", "part", box=None)
        for name in ("finding", "what to do"):
            table.add_column(name, overflow="fold")
        marks = {"ok": "[green]ok[/]", "note": "[yellow]note[/]", "wrong": "[red]wrong[/]"}
        for finding in findings:
            table.add_row(marks[finding.verdict], finding.part, finding.detail, finding.advice)
        stdout.print(table)
    if any(finding.verdict == "wrong" for finding in findings):
        raise typer.Exit(1)
