"""Keys are rotated and retired while engine, agent and `/v1/allow` run: no restart, and nobody gets loose."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable, Iterator

import httpx
import pytest
from aiokafka import AIOKafkaProducer

from responders import keys
from schemas.topics import CONTROL
from tests.integration.parts.engine import UpEngine
from watchkeeper_client import Watchkeeper
from watchkeeper_client.control import sign

pytestmark = [pytest.mark.embedded, pytest.mark.timeout(240)]
PATIENCE_S = 60.0


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[UpEngine]:
    with UpEngine(tmp_path_factory.mktemp("engine")) as running:
        yield running


def until(condition: Callable[[], object], what: str) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < deadline, f"waited in vain for {what}"
        time.sleep(0.1)


def forged(old: keys.SigningKey, agent: str, mode: str) -> bytes:
    """A command of a key that is no longer trusted, newer than any other."""
    now_ms = int(time.time() * 1000)
    fields: dict[str, object] = {
        "command_id": f"forged-{agent}",
        "epoch": now_ms + 3_600_000,
        "target": {"tenant": "default", "agent": agent},
        "state": {"mode": mode},
        "reason": "forged",
        "issued_at": "2026-01-01T00:00:00Z",
        "issuer": "watchkeeper",
    }
    return json.dumps(sign(fields, old.private_key, old.key_id)).encode()


def produce(bootstrap: str, key: str, value: bytes) -> None:
    async def send() -> None:
        producer = AIOKafkaProducer(bootstrap_servers=bootstrap)
        await producer.start()
        try:
            await producer.send_and_wait(CONTROL, value, key=key.encode())
        finally:
            await producer.stop()

    asyncio.run(send())


def test_two_keys_live_and_the_retired_one_counts_for_nothing(
    engine: UpEngine, caplog: pytest.LogCaptureFixture
) -> None:
    def outside(agent: str) -> bool:
        return httpx.get(f"{engine.http}/v1/allow", params={"agent": agent}, timeout=10).status_code == 200

    with Watchkeeper(bootstrap=engine.kafka, agent="shop", keys=engine.trusted_keys) as keeper:
        assert keeper.wait_heard(PATIENCE_S)
        engine.json("halt", "default/shop")
        until(lambda: not keeper.gate.allowed().allowed, "the halt")
        old = keys.load(engine.data_dir)
        for role in ("engine", "operator"):
            assert engine.json("keys", "rotate", role)["signs"].startswith(role)
        engine.json("resume", "default/shop")
        until(lambda: keeper.gate.allowed().allowed, "the new operator's key to lift it")
        until(lambda: outside("shop"), "/v1/allow to hear it")
        for key in (old.engine, old.operator):
            engine.json("keys", "retire", key.key_id)
        produce(engine.kafka, "default/shop", forged(old.engine, "shop", "halt"))
        until(lambda: "control forged-shop: refused unknown_key" in caplog.text, "the refusal")
        engine.json("halt", "default/shop")
        until(lambda: not keeper.gate.allowed().allowed, "the halt with a new key")
        produce(engine.kafka, "default/shop", forged(old.operator, "shop", "run"))
        until(lambda: caplog.text.count("control forged-shop: refused unknown_key") == 2, "the refusal")
        assert keeper.gate.allowed().denied == "halt"
        until(lambda: not outside("shop"), "/v1/allow to deny")
    with Watchkeeper(bootstrap=engine.kafka, agent="shop", keys=engine.trusted_keys) as restarted:
        assert restarted.wait_heard(PATIENCE_S)
        assert restarted.gate.allowed().denied == "halt"
