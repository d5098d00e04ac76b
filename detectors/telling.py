"""What a session tells the behaviour stage of itself: facts as they happen, and what it showed once it ended
well.
"""

from __future__ import annotations

from typing import Any, Final

from detectors.base import name_hash
from detectors.bounded import DIGEST_BYTES, remember
from detectors.records import SessionRecord
from detectors.summary import AgentUse, Fact, FactKind, Lesson, SessionSummary, credential_hash
from schemas.detection import Detection

MAX_FOREIGN: Final = 32
MAX_CREDENTIALS_BYTES: Final = DIGEST_BYTES * 64
HEALTHY: Final = frozenset({"completed", "escalated"})
# Default caps and forecasts are guesses, which what is learned replaces; what is merely new is there to be
# learned. A session in which no more than these was found teaches all the same.
GUESSES: Final = frozenset(
    {
        ("budget", "tokens"),
        ("budget", "steps"),
        ("spend_forecast", "forecast_tokens"),
        ("spend_forecast", "forecast_cost_usd"),
        ("credential_misuse", "new_uses"),
    }
)

EventPlace = tuple[str, int, int, int]
"""Topic, partition, offset, and index of the event in the record."""


class Teller:
    """Collects the facts of one event."""

    def __init__(self) -> None:
        self.facts: list[Fact] = []

    def take(self) -> list[Fact]:
        """What has been told, which is forgotten with that."""
        facts, self.facts = self.facts, []
        return facts

    def tell(self, kind: FactKind, event: Any, place: EventPlace, time_ms: int, **fields: Any) -> None:
        """Note a fact of an event."""
        topic, partition, offset, index = place
        self.facts.append(
            Fact(
                tenant=event.tenant,
                kind=kind,
                agent=event.agent,
                session=event.session,
                time_ms=time_ms,
                event_id=event.event_id,
                source_topic=topic,
                source_partition=partition,
                source_offset=offset,
                source_index=index,
                source_ordinal=len(self.facts),
                **fields,
            )
        )

    def declare_credential(self, record: SessionRecord, event: Any, place: EventPlace, time_ms: int) -> None:
        """A start of the session names the credential it works with: a fact the first time."""
        facts = record.facts
        digest = name_hash(event.credential)
        if digest in facts.credentials:
            return
        facts.credentials = (facts.credentials + digest)[:MAX_CREDENTIALS_BYTES]
        if not facts.taught:
            lesson_of(record).add_credential(event.agent, event.credential)
        self.tell("credential", event, place, time_ms, credential=credential_hash(event.credential))

    def use_credential(self, record: SessionRecord, event: Any, place: EventPlace, time_ms: int) -> None:
        """A call is made with a credential that no start of the session declared: a fact the first time this
        agent uses it.
        """
        facts = record.facts
        if not facts.taught and event.status == "ok":
            lesson_of(record).add_credential(event.agent, event.credential)
        digest = name_hash(f"{event.agent}\x1f{event.credential}")
        if digest in facts.foreign_credentials:
            return
        facts.foreign_credentials = remember(facts.foreign_credentials, digest, MAX_FOREIGN)
        self.tell("credential", event, place, time_ms, credential=credential_hash(event.credential))


def lesson_of(record: SessionRecord) -> Lesson:
    """What the session has shown so far."""
    lesson = record.lesson
    if lesson is None:
        lesson = record.lesson = Lesson()
    return lesson


def teach(record: SessionRecord, place: EventPlace) -> list[SessionSummary]:
    """What the session that has just ended did, by agent, and, if it was started, ended well and no detector
    found fault, how. A session is told of once.
    """
    facts, lesson = record.facts, record.lesson
    healthy = lesson is not None and facts.outcome in HEALTHY and facts.started
    facts.taught = facts.told = True
    record.lesson = None
    topic, partition, offset, index = place
    return [
        SessionSummary(
            tenant=facts.tenant,
            agent=agent,
            session=facts.session,
            start_ms=facts.start_ms,
            end_ms=facts.last_ms,
            healthy=healthy,
            outcome=facts.outcome or "",
            steps=facts.steps,
            llm_calls=facts.llm_calls,
            tool_calls=facts.tool_calls,
            errors=facts.errors,
            escalations=facts.escalations,
            clarifications=facts.clarifications,
            tokens=facts.tokens,
            cost_usd_micro=int(facts.cost_usd * 1e6 + 0.5),
            cost_unknown_calls=facts.cost_unknown_calls,
            use=lesson.use_of(agent) if lesson is not None and healthy else AgentUse(),
            source_topic=topic,
            source_partition=partition,
            source_offset=offset,
            source_index=index,
            source_ordinal=number,
        )
        for number, agent in enumerate(facts.agents if lesson is None else lesson.agents() or facts.agents)
    ]


def is_alarm(found: Detection) -> bool:
    """Whether from a session in which this was found nothing should be learned."""
    guess = (found.detector, found.metric) in GUESSES
    return found.severity == "critical" or (found.severity == "warning" and not guess)
