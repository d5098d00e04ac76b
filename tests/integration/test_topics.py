"""The contract's topics on a real broker: made once, checked ever after."""

from __future__ import annotations

import pytest
from aiokafka import AIOKafkaProducer

from config.settings import KafkaSettings
from schemas.topics import DETECTIONS, EVENTS, OTLP_SPANS, TOPICS
from streams.admin import TopicError, check_topics, create_topics
from tests.integration.parts.kafka import KafkaBroker


def settings(broker: KafkaBroker, partitions: int = 2) -> KafkaSettings:
    return KafkaSettings(bootstrap=broker.bootstrap, partitions=partitions)


async def test_topics_are_made_once_and_checked(kafka_broker: KafkaBroker) -> None:
    assert set(await create_topics(settings(kafka_broker))) == {topic.name for topic in TOPICS}
    assert await create_topics(settings(kafka_broker)) == []
    assert set((await check_topics(settings(kafka_broker))).values()) == {2}
    with pytest.raises(TopicError, match="PARTITIONS=2"):
        await check_topics(settings(kafka_broker, partitions=3))
    with pytest.raises(TopicError, match="PARTITIONS=2"):
        await create_topics(settings(kafka_broker, partitions=3))


async def test_a_producer_cannot_set_the_clock_events_are_held_against(kafka_broker: KafkaBroker) -> None:
    await create_topics(settings(kafka_broker))
    producer = AIOKafkaProducer(bootstrap_servers=kafka_broker.bootstrap)
    await producer.start()
    try:
        long_ago_ms = 1_000_000_000_000
        for topic in (EVENTS, OTLP_SPANS):
            told = await producer.send_and_wait(topic, b"{}", timestamp_ms=long_ago_ms)
            assert told.timestamp > long_ago_ms
        told = await producer.send_and_wait(DETECTIONS, b"{}", timestamp_ms=long_ago_ms)
        assert told.timestamp == long_ago_ms
    finally:
        await producer.stop()
