"""The whole responder on a real broker: a detection in, a page and a signed command out, proof in the log."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import orjson
import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from pydantic import SecretStr

from config.settings import DatabaseSettings, KafkaSettings, Settings, SlackSettings
from responders import actions, keys, service
from responders.fake_slack import GOOD_TOKEN, FakeSlack
from responders.store import projections
from responders.store.event_store import Store
from schemas import topics
from schemas.base import epoch_ms
from tests.integration.parts.kafka import KafkaBroker
from tests.integration.parts.ports import free_port
from tests.responders.world import START, ack_of, detection
from watchkeeper_client.control import Verified, verify

SOON_S = 60.0


@pytest.fixture
async def slack() -> AsyncIterator[tuple[FakeSlack, str]]:
    fake = FakeSlack()
    url = await fake.start()
    yield fake, url
    await fake.stop()


def settings_for(bootstrap: str, data_dir: Path, slack_url: str, token: str = GOOD_TOKEN) -> Settings:
    return Settings(
        data_dir=data_dir,
        kafka=KafkaSettings(bootstrap=bootstrap, rebalance_timeout_ms=1_000),
        database=DatabaseSettings(),
        slack=SlackSettings(bot_token=SecretStr(token), base_url=slack_url),
    )


async def make_topics(bootstrap: str) -> None:
    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap)
    await admin.start()
    names = (topics.DETECTIONS, topics.ACKS, topics.CONTROL, topics.INCIDENTS)
    await admin.create_topics([NewTopic(name, 2, 1) for name in names])
    await admin.close()


async def until(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + SOON_S
    while not await asyncio.to_thread(condition):
        assert time.monotonic() < deadline, "it did not happen"
        await asyncio.sleep(0.05)


class Running:
    """A responder that runs beside the test."""

    def __init__(self, settings: Settings) -> None:
        self.stop = asyncio.Event()
        self.ready = asyncio.Event()
        self.task = asyncio.ensure_future(service.run(settings, self.stop, self.ready.set))

    async def __aenter__(self) -> Running:
        await asyncio.wait_for(self.ready.wait(), SOON_S)
        return self

    async def __aexit__(self, *_: object) -> None:
        self.stop.set()
        await asyncio.wait_for(self.task, SOON_S)


@pytest.mark.kafka
async def test_from_a_detection_to_a_page_and_a_proved_halt(
    kafka_broker: KafkaBroker, tmp_path: Path, slack: tuple[FakeSlack, str]
) -> None:
    fake, slack_url = slack
    bootstrap = kafka_broker.bootstrap
    await make_topics(bootstrap)
    settings = settings_for(bootstrap, tmp_path, slack_url)
    producer = AIOKafkaProducer(bootstrap_servers=bootstrap)
    control = AIOKafkaConsumer(topics.CONTROL, bootstrap_servers=bootstrap, auto_offset_reset="earliest")
    await producer.start()
    await control.start()

    async def send(topic: str, value: bytes) -> None:
        await producer.send_and_wait(topic, value, partition=0)

    async def next_command() -> dict[str, Any]:
        record = await asyncio.wait_for(control.getone(), SOON_S)
        assert record.key == b"default/billing/s-1"
        command: dict[str, Any] = orjson.loads(record.value)
        return command

    seen = detection().model_dump_json(by_alias=True).encode()
    try:
        # Neither what was there before the group first read is skipped, nor what follows a broken record.
        for value in (b"\xff{", b'{"schema": "agent.detection/1"}', seen, seen):
            await send(topics.DETECTIONS, value)
        async with Running(settings):
            command = await next_command()
            trusted = keys.load(tmp_path).trusted()
            assert isinstance(verify(command, trusted, epoch_ms(START)), Verified)
            await send(topics.ACKS, b"not json")
            await send(topics.ACKS, ack_of(command, START).model_dump_json(by_alias=True).encode())
            store = Store.open(settings.database_url)
            (row,) = projections.incidents(store)
            await until(lambda: projections.incident(store, row.incident_id).containment == "applied")
        async with Running(settings):
            await send(topics.DETECTIONS, seen)
            responder = actions.connect(settings)
            await asyncio.to_thread(actions.resume, responder, "billing", "alice")
            while (command := await next_command())["state"]["mode"] != "run":
                pass
            assert command["key_id"].startswith("operator-")
            await until(lambda: any("Released" in str(message.blocks) for message in fake.messages))
            responder.store.close()
        assert len(fake.messages) == 1
        assert projections.incidents(store)[0].detections == 1
        store.close()
    finally:
        await control.stop()
        await producer.stop()


@pytest.mark.parametrize(
    ("token", "says"),
    [("xoxb-wrong", "set WATCHKEEPER_SLACK__BOT_TOKEN"), (GOOD_TOKEN, "no Kafka broker answers at")],
)
async def test_what_a_user_can_get_wrong_is_said_in_one_line(
    tmp_path: Path, slack: tuple[FakeSlack, str], token: str, says: str
) -> None:
    settings = settings_for(f"127.0.0.1:{free_port()}", tmp_path, slack[1], token)
    with pytest.raises(service.ServiceError, match=says) as caught:
        await service.run(settings, asyncio.Event(), lambda: None)
    assert "\n" not in str(caught.value)
    assert token not in str(caught.value)


async def test_an_unwritable_data_directory_is_said_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    settings = settings_for("127.0.0.1:1", tmp_path / "file" / "data", "http://127.0.0.1:1/")
    with pytest.raises(service.ServiceError, match="--data-dir"):
        await service.run(settings, asyncio.Event(), lambda: None)
