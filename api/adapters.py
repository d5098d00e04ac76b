"""The API's ports on the parts the engine has: incident store, responder, Kafka."""

from __future__ import annotations

from datetime import datetime

from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError, MessageSizeTooLargeError

from api.health import HealthBoard
from api.ports import ControlOrder, JsonObject, NoIncidentError, ProducerError
from responders import actions
from responders.decide import ActionRefused, Contain, Lift
from responders.handle import Responder
from responders.incident import Incident
from responders.store import projections
from responders.store.event_store import Store
from responders.store.projections import AgentRow


class StoreIncidents:
    """`Incidents` from the store's projections, and the health of agents from `board`."""

    def __init__(self, store: Store, board: HealthBoard | None = None) -> None:
        self._store = store
        self._board = HealthBoard() if board is None else board

    def incidents(self, limit: int) -> list[JsonObject]:
        return [row.model_dump(mode="json") for row in projections.incidents(self._store, limit=limit)]

    def incident(self, incident_id: str, at: datetime | None) -> JsonObject:
        try:
            return projections.incident(self._store, incident_id, at).model_dump(mode="json")
        except ActionRefused as error:
            raise NoIncidentError(str(error)) from None

    def agents(self) -> list[JsonObject]:
        rows = {(row.tenant, row.agent): row for row in projections.agents(self._store)}
        health = self._board.all()
        for tenant, agent in health.keys() - rows.keys():
            rows[tenant, agent] = AgentRow(
                tenant=tenant, agent=agent, open_incidents=[], severity=None, commands=[]
            )
        return [
            {
                **rows[name].model_dump(mode="json"),
                "health": health[name].model_dump(mode="json") if name in health else None,
            }
            for name in sorted(rows)
        ]


class ResponderActions:
    """`Actions` by the responder: the same decisions as the command line's."""

    def __init__(self, responder: Responder) -> None:
        self._responder = responder

    def acknowledge(self, incident_id: str, person: str) -> JsonObject:
        return _told(actions.acknowledge(self._responder, incident_id, person))

    def resolve(self, incident_id: str, person: str) -> JsonObject:
        return _told(actions.resolve(self._responder, incident_id, person))

    def control(self, order: ControlOrder, person: str) -> JsonObject:
        if order.state is None:
            lifted = self._responder.lift(person, Lift(order.target, order.reason))
            wider = actions.still_held_by(self._responder, order.target)
            return {
                "targets": [target.model_dump(mode="json", exclude_none=True) for target in lifted],
                "still_held_by": [target.model_dump(mode="json", exclude_none=True) for target in wider],
            }
        return _told(self._responder.contain(person, Contain(order.target, order.state, order.reason)))


def _told(incident: Incident) -> JsonObject:
    return {
        "incident_id": incident.incident_id,
        "state": incident.state,
        "severity": incident.severity,
        "containment": incident.containment,
    }


class KafkaProducer:
    """`Producer` on a started aiokafka producer, which should wait for all replicas (`acks="all"`)."""

    def __init__(self, producer: AIOKafkaProducer) -> None:
        self._producer = producer

    async def send(self, topic: str, key: bytes | None, value: bytes) -> None:
        try:
            await self._producer.send_and_wait(topic, value=value, key=key)
        except MessageSizeTooLargeError:
            line = f"{topic}: a record of {len(value)} bytes is too large: raise max_request_size"
            raise ProducerError(line) from None
        except (KafkaError, OSError) as error:
            raise ProducerError(f"{topic}: the broker did not take it ({type(error).__name__})") from None
