"""Creates the contract's topics and checks those that are there."""

from __future__ import annotations

from typing import Any

from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.errors import KafkaConnectionError, KafkaError, for_code

from config.errors import CorrectableError
from config.kafka import client_options
from config.settings import KafkaSettings
from schemas.topics import EVENTS, OTLP_LOGS, OTLP_SPANS, TOPICS, Topic

# aiokafka's admin client has no types.
_Admin: Any = AIOKafkaAdminClient
_NewTopic: Any = NewTopic
_TOPIC_EXISTS = 36
_FROM_OUTSIDE = frozenset({EVENTS, OTLP_SPANS, OTLP_LOGS})
_RETENTION_MS = 7 * 24 * 3600 * 1000


class TopicError(CorrectableError):
    """A topic is missing or has the wrong partition count; the message says what to do."""


class BrokerError(CorrectableError):
    """The broker cannot be reached or refuses; the message says what to do."""


async def create_topics(kafka: KafkaSettings) -> list[str]:
    """Creates what is missing of the contract's topics and checks the rest.

    Returns:
        The names of those it created.

    Raises:
        BrokerError: no broker, or it refuses.
        TopicError: a topic exists with another number of partitions.
    """
    admin = await connect(kafka)
    try:
        present = await _partition_counts(admin)
        missing = [topic for topic in TOPICS if topic.name not in present]
        requests = [
            _NewTopic(topic.name, kafka.partitions, kafka.replication, topic_configs=_configs(topic))
            for topic in missing
        ]
        answer = await admin.create_topics(requests) if requests else None
        for name, code, *rest in answer.topic_errors if answer is not None else ():
            if code not in (0, _TOPIC_EXISTS):
                raise BrokerError(
                    f"the broker refused to create {name}: {rest[0] or for_code(code).__name__}"
                )
        _check({name: count for name, count in present.items() if name in _names()}, kafka.partitions)
        return [topic.name for topic in missing]
    except KafkaError as error:
        raise BrokerError(f"the broker at {kafka.bootstrap} did not answer: {error}") from None
    finally:
        await admin.close()


async def check_topics(kafka: KafkaSettings) -> dict[str, int]:
    """Partition counts by topic.

    Raises:
        BrokerError: no broker.
        TopicError: a topic is missing or its partition count is not the configured one.
    """
    admin = await connect(kafka)
    try:
        present = await _partition_counts(admin)
    finally:
        await admin.close()
    missing = [name for name in _names() if name not in present]
    if missing:
        raise TopicError(f"topics missing: {', '.join(missing)}; run: watchkeeper topics create")
    mine = {name: present[name] for name in _names()}
    _check(mine, kafka.partitions)
    return mine


async def connect(kafka: KafkaSettings) -> Any:
    """A started admin client; the caller closes it.

    Raises:
        BrokerError: no broker.
    """
    admin = _Admin(**client_options(kafka))
    try:
        await admin.start()
    except (KafkaConnectionError, OSError):
        await admin.close()
        raise BrokerError(
            f"no Kafka broker at {kafka.bootstrap}: start one with make kafka or docker compose up, "
            "or set WATCHKEEPER_KAFKA__BOOTSTRAP"
        ) from None
    return admin


def _names() -> tuple[str, ...]:
    return tuple(topic.name for topic in TOPICS)


def _configs(topic: Topic) -> dict[str, str]:
    configs = {"cleanup.policy": topic.cleanup, "max.message.bytes": str(2 * 1024 * 1024)}
    if topic.cleanup == "delete":
        configs["retention.ms"] = str(_RETENTION_MS)
    if topic.name in _FROM_OUTSIDE:
        # The broker's clock is what events' times are held against: a producer must not be able to set it.
        configs["message.timestamp.type"] = "LogAppendTime"
    return configs


async def _partition_counts(admin: Any) -> dict[str, int]:
    return {topic["topic"]: len(topic["partitions"]) for topic in await admin.describe_topics()}


def _check(counts: dict[str, int], wanted: int) -> None:
    for name, count in counts.items():
        if count != wanted:
            raise TopicError(
                f"topic {name} has {count} partitions and {wanted} are configured: set "
                f"WATCHKEEPER_KAFKA__PARTITIONS={count} if all topics have {count}, or create the topic anew"
            )
