"""Before a worker starts: are its stages' topics there, and with the right number of partitions?"""

from collections.abc import Sequence
from typing import Any

from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.errors import KafkaError, TopicAlreadyExistsError, for_code

from streams.admin import BrokerError, TopicError
from streams.changelog import TOPIC_CONFIG, changelog_topic
from streams.stage import Stage
from streams.transport import ClientSettings

__all__ = ["check_topics", "ensure_topics"]

# aiokafka has no types.
_Admin: Any = AIOKafkaAdminClient
_NewTopic: Any = NewTopic


async def ensure_topics(stages: Sequence[Stage], client: ClientSettings, changelog_replication: int) -> None:
    """Check the stages' topics, and create the changelogs that are missing.

    Raises:
        BrokerError: no broker, or it refuses.
        TopicError: a topic is missing or has the wrong number of partitions; the message says what to do.
    """
    admin = _Admin(**client.connection())
    try:
        await admin.start()
        counts = {topic["topic"]: len(topic["partitions"]) for topic in await admin.describe_topics()}
        missing = check_topics(stages, client.group_id, counts)
        if missing:
            await _create_changelogs(admin, missing, changelog_replication)
    except (KafkaError, OSError) as error:
        raise BrokerError(f"no answer from the broker at {client.bootstrap_servers}: {error}") from None
    finally:
        await admin.close()


def check_topics(stages: Sequence[Stage], group_id: str, counts: dict[str, int]) -> dict[str, int]:
    """The changelogs to create, with their partition counts. Raises TopicError."""
    wanted = {topic for stage in stages for topic in (*stage.sources, *stage.outputs, *stage.broadcast)}
    if absent := sorted(wanted - counts.keys()):
        raise TopicError(f"topics missing: {', '.join(absent)}; run: watchkeeper topics create")
    missing = {}
    for stage in stages:
        sources = {topic: counts[topic] for topic in stage.sources}
        if len(set(sources.values())) != 1:
            shown = ", ".join(f"{topic} has {count}" for topic, count in sources.items())
            raise TopicError(
                f"the sources of stage {stage.name} must have the same number of partitions, but {shown}: "
                "create the odd one anew"
            )
        count = next(iter(sources.values()))
        changelog = changelog_topic(group_id, stage.name)
        if not stage.stateful:
            continue
        if changelog not in counts:
            missing[changelog] = count
        elif counts[changelog] != count:
            raise TopicError(
                f"changelog {changelog} has {counts[changelog]} partitions, its sources {count}: keys would "
                f"be looked for in the wrong one. Give them {counts[changelog]} again or use a new group"
            )
    return missing


async def _create_changelogs(admin: Any, missing: dict[str, int], replication: int) -> None:
    requests = [
        _NewTopic(topic, count, replication, topic_configs=TOPIC_CONFIG) for topic, count in missing.items()
    ]
    answer = await admin.create_topics(requests)
    for name, code, *rest in answer.topic_errors:
        if code not in (0, TopicAlreadyExistsError.errno):
            raise BrokerError(f"the broker refused to create {name}: {rest[0] or for_code(code).__name__}")
