"""The client's README: its examples run as they stand, on a broker that is theirs."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from cryptography.exceptions import InvalidSignature

from cli.broker import EmbeddedBroker
from schemas import topics
from schemas.control import CONTROL_ACK
from schemas.event import AGENT_EVENT
from tests.client.commands import ENGINE, KEYS, STRANGER, fields, raw
from tests.client.test_embedded import command, read, until_async

README = Path(__file__).parents[2] / "client" / "README.md"
PUBLISH, PUBLISH_ASYNC, SPEND, VERIFY, CONSUME = re.findall(
    r"```python\n(.*?)```", README.read_text(), re.DOTALL
)


def run(code: str, *, bootstrap: str = "", keys: Path | None = None) -> dict[str, Any]:
    """What the example defines, after running it against this broker with these keys."""
    names: dict[str, Any] = {"__name__": "example"}
    exec(code.replace("127.0.0.1:9092", bootstrap).replace("trusted.json", str(keys)), names)  # its own words
    return names


@pytest.mark.embedded
def test_publishing_in_both_kinds_of_code(start_broker: Callable[[], EmbeddedBroker], tmp_path: Path) -> None:
    broker = start_broker()
    keys = tmp_path / "keys.json"
    keys.write_text(json.dumps({ENGINE.key_id: ENGINE.entry}))
    run(PUBLISH, bootstrap=broker.address, keys=keys)
    run(PUBLISH_ASYNC, bootstrap=broker.address, keys=keys)
    events = [AGENT_EVENT.validate_json(value) for value in asyncio.run(read(broker, topics.EVENTS, 7))]
    types = [event.type for event in events if event.session == "session-17"]
    assert types == ["session.start", "tool.call", "session.end"]


@pytest.mark.embedded
def test_budgets_and_what_cannot_be_taken_back(
    start_broker: Callable[[], EmbeddedBroker], tmp_path: Path
) -> None:
    keys = tmp_path / "keys.json"
    keys.write_text(json.dumps({ENGINE.key_id: ENGINE.entry}))
    names = run(SPEND, bootstrap=start_broker().address, keys=keys)
    assert names["denials"] == [None, "budget", "irreversible"]
    assert names["dropped"] == ["carts_2019"]


def test_verifying_without_the_client() -> None:
    is_genuine = run(VERIFY)["is_genuine"]
    trusted = {ENGINE.key_id: ENGINE.entry}
    assert is_genuine(raw(fields(budget={"cost_usd": 2.5})), trusted)
    forged = json.loads(raw(fields(), STRANGER)) | {"key_id": ENGINE.key_id}
    with pytest.raises(InvalidSignature):
        is_genuine(json.dumps(forged).encode(), trusted)


@pytest.mark.embedded
async def test_a_consumer_obeys_and_acknowledges(start_broker: Callable[[], EmbeddedBroker]) -> None:
    broker = await asyncio.to_thread(start_broker)
    enforcer = run(CONSUME)["Enforcer"](broker.address, KEYS)
    running = asyncio.create_task(enforcer.run())
    try:
        assert enforcer.decide("shop", "s", "search").allowed
        await command(broker, raw(fields()), raw(fields(epoch=2, mode="run"), STRANGER))
        await until_async(lambda: not enforcer.decide("shop", "s", "search").allowed)
        acks = [CONTROL_ACK.validate_json(value) for value in await read(broker, topics.ACKS, 2)]
    finally:
        running.cancel()
        await asyncio.wait({running})
    assert [(ack.epoch, ack.result) for ack in acks] == [(1, "applied"), (2, "refused")]
