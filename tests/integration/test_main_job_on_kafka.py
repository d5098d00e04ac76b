"""The main job with Apache Kafka as the bus: what the embedded broker forgives must hold here."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import httpx
import pytest

from config.settings import KafkaSettings
from streams.admin import create_topics
from tests.integration.parts.engine import UpEngine, run_cli
from tests.integration.parts.kafka import KafkaBroker
from watchkeeper_client import Watchkeeper
from watchkeeper_client.control import TrustedKeys

pytestmark = pytest.mark.timeout(240)


def test_a_gate_hears_control_and_says_so_when_it_cannot(kafka_broker: KafkaBroker) -> None:
    with Watchkeeper(bootstrap=kafka_broker.bootstrap, agent="early", keys=TrustedKeys({})) as keeper:
        assert not keeper.wait_heard(2.0)
        asyncio.run(create_topics(KafkaSettings(bootstrap=kafka_broker.bootstrap, partitions=2)))
        assert keeper.wait_heard(20.0)


def test_from_an_event_to_an_obeyed_halt(kafka_broker: KafkaBroker, tmp_path: Path) -> None:
    bootstrap = kafka_broker.bootstrap
    with UpEngine(tmp_path, arguments=("--bootstrap", bootstrap)) as engine:
        assert engine.kafka == bootstrap
        drilled = engine.run(
            "drill", "clarification-loop", "file-listing", "--bootstrap", bootstrap, "--json"
        )
        assert drilled.returncode == 0, drilled.stdout + drilled.stderr
        for score in json.loads(drilled.stdout):
            assert score["contained"]
        assert httpx.get(f"{engine.http}/readyz").status_code == 200
        replayed = run_cli("backtest", "kafka:agent.events", "--bootstrap", bootstrap, "--json")
        assert replayed.returncode == 0, replayed.stderr
        found = {json.loads(line)["detector"] for line in replayed.stdout.splitlines()}
        assert {"ping_pong", "tool_loop"} <= found
        nothing = run_cli("backtest", "kafka:no-such-topic", "--bootstrap", bootstrap)
        assert nothing.returncode == 1
        assert "no topic no-such-topic" in nothing.stderr
        assert engine.stop() == 0
