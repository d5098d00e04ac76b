"""`topics`, `db`, `keys`, `prepare`, `doctor`: set-up, and finding out what is wrong."""

from __future__ import annotations

import asyncio
import json
from typing import Annotated

import typer
from rich.table import Table

from cli.common import Bootstrap, Config, DataDir, Json, ensure_data_dir, print_json, settings_from, stdout

_PANEL = "Set up"

topics_app = typer.Typer(help="The bus: create and check topics.", no_args_is_help=True)
db_app = typer.Typer(help="The incident store: its tables.", no_args_is_help=True)
keys_app = typer.Typer(help="The keys that sign control commands.", no_args_is_help=True)


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
    from responders.migrations import upgrade

    settings = settings_from(config, data_dir)
    ensure_data_dir(settings)
    upgrade(settings.database_url)
    stdout.print("the incident store is up to date")


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
        table = Table("", "part", "finding", "what to do", box=None)
        marks = {"ok": "[green]ok[/]", "note": "[yellow]note[/]", "wrong": "[red]wrong[/]"}
        for finding in findings:
            table.add_row(marks[finding.verdict], finding.part, finding.detail, finding.advice)
        stdout.print(table)
    if any(finding.verdict == "wrong" for finding in findings):
        raise typer.Exit(1)
