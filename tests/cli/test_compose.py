"""The compose file says only what the code knows: settings and commands that exist, parts that are there."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic import BaseModel

from cli.main import app
from config.settings import Settings
from schemas.topics import OTLP_LOGS, OTLP_SPANS
from watchkeeper_client.control import TRUSTED_KEYS_VARIABLE

ROOT = Path(__file__).parents[2]
COMPOSE: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
OURS = {name: service for name, service in COMPOSE["services"].items() if "build" in service}


def _setting(variable: str) -> bool:
    """Whether `WATCHKEEPER_A__B` names a setting, or what the client reads itself."""
    if variable == TRUSTED_KEYS_VARIABLE:
        return True
    model: Any = Settings
    for part in variable.removeprefix("WATCHKEEPER_").lower().split("__"):
        if not (isinstance(model, type) and issubclass(model, BaseModel) and part in model.model_fields):
            return False
        model = model.model_fields[part].annotation
    return True


def test_production_parts_are_there() -> None:
    images = {service.get("image", "") for service in COMPOSE["services"].values()}
    assert any(image.startswith("apache/kafka:") for image in images)
    assert any(image.startswith("postgres:") for image in images)
    assert any("opentelemetry-collector" in image for image in images)
    commands = [service["command"][0] for service in OURS.values()]
    assert commands.count("stream") == 2
    assert commands.count("respond") == 1


@pytest.mark.parametrize("name", OURS)
def test_commands_exist(name: str) -> None:
    known = {
        command.name or command.callback.__name__ for command in app.registered_commands if command.callback
    }
    assert OURS[name]["command"][0] in known


def test_variables_are_settings() -> None:
    texts = [(ROOT / name).read_text() for name in ("docker-compose.yml", ".env.example")]
    variables = set(re.findall(r"\bWATCHKEEPER_[A-Z0-9_]+", "\n".join(texts)))
    assert variables
    assert [variable for variable in sorted(variables) if not _setting(variable)] == []


def test_health_is_waited_for() -> None:
    for name, service in OURS.items():
        if name != "prepare":
            assert service["depends_on"]["prepare"]["condition"] == "service_completed_successfully"
    for dependency, how in OURS["prepare"]["depends_on"].items():
        assert how["condition"] == "service_healthy"
        assert "healthcheck" in COMPOSE["services"][dependency]


def test_volumes_are_declared() -> None:
    for service in COMPOSE["services"].values():
        for volume in service.get("volumes", []):
            source = volume.split(":")[0]
            assert source in COMPOSE["volumes"] or (ROOT / source).exists()


def test_the_collector_writes_what_the_otlp_stage_reads() -> None:
    collector = yaml.safe_load((ROOT / "deploy" / "collector.yaml").read_text())
    exporter = collector["exporters"]["kafka"]
    assert exporter["traces"]["topic"] == OTLP_SPANS
    assert exporter["logs"]["topic"] == OTLP_LOGS
    for pipeline in collector["service"]["pipelines"].values():
        assert pipeline["exporters"] == ["kafka"]
