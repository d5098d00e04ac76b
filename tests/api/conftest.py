"""An app on parts that only remember."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime

import pytest
from starlette.testclient import TestClient

from api.app import Parts, make_app
from api.ports import ControlOrder, JsonObject, NoIncidentError, ProducerError
from api.security import Access
from responders.decide import ActionRefused
from responders.slack.interactions import Answer, Press, request_of
from watchkeeper_client.spending import Call
from watchkeeper_client.wanted import ALLOWED, Decision

TOKEN = "a-token-of-the-engine"
SECRET = "slack-signing-secret"
NOW_S = 1_772_366_400.0
NOW = "2026-03-01T12:00:00Z"


@dataclass
class Remembering:
    """Every part at once; what was asked of it is kept, what it answers is set by the test."""

    sent: list[tuple[str, bytes | None, bytes]] = field(default_factory=list)
    done: list[tuple[object, ...]] = field(default_factory=list)
    decided: list[tuple[object, ...]] = field(default_factory=list)
    decision: Decision = ALLOWED
    wrong: dict[str, str] = field(default_factory=dict)
    to_mend: dict[str, str] = field(default_factory=dict)
    broken: bool = False
    held: threading.Event | None = None
    """What Slack's requests wait for, when there is something."""
    told: list[tuple[str, str]] = field(default_factory=list)
    now_s: float = NOW_S

    async def send(self, topic: str, key: bytes | None, value: bytes) -> None:
        if self.broken:
            raise ProducerError(f"{topic}: the broker did not take it")
        self.sent.append((topic, key, value))

    def incidents(self, limit: int) -> list[JsonObject]:
        rows: list[JsonObject] = [{"incident_id": f"INC-{n}"} for n in range(min(limit, 2))]
        return rows

    def incident(self, incident_id: str, at: datetime | None) -> JsonObject:
        if incident_id != "INC-0":
            raise NoIncidentError(f"there is no incident {incident_id}")
        return {"incident_id": incident_id, "at": None if at is None else at.isoformat()}

    def agents(self) -> list[JsonObject]:
        return [{"agent": "support"}]

    def acknowledge(self, incident_id: str, person: str) -> JsonObject:
        self.done.append(("ack", incident_id, person))
        return {"state": "acknowledged"}

    def resolve(self, incident_id: str, person: str) -> JsonObject:
        if incident_id != "INC-0":
            raise ActionRefused("it is resolved already")
        self.done.append(("resolve", incident_id, person))
        return {"state": "resolved"}

    def control(self, order: ControlOrder, person: str) -> JsonObject:
        self.done.append((order, person))
        return {"incident_id": "INC-9"}

    def decide(self, tenant: str, agent: str, session: str | None, call: Call) -> Decision:
        self.decided.append((tenant, agent, session, call))
        return self.decision

    async def notices(self) -> Mapping[str, str]:
        return self.to_mend

    async def problems(self) -> Mapping[str, str]:
        return self.wrong

    async def take(self, payload: JsonObject) -> Answer | None:
        request = request_of(payload)
        if request is None:
            return None
        if self.held is not None:
            await asyncio.to_thread(self.held.wait, 60)
        self.done.append(
            (
                request.person.user_id,
                *((request.deed, request.value) if isinstance(request, Press) else (request.text,)),
            )
        )
        return Answer("It is done.")

    async def reply(self, url: str, answer: Answer) -> bool:
        if url:
            self.told.append((url, answer.text))
        return bool(url)


@pytest.fixture
def parts() -> Remembering:
    return Remembering()


def client_of(
    parts: Remembering, *, loopback: bool = True, secret: str | None = SECRET, host: str = "127.0.0.1"
) -> TestClient:
    """A client of an app on these parts."""
    app = make_app(
        Parts(parts, parts, parts, parts, parts, parts),
        Access(TOKEN, loopback),
        slack_signing_secret=secret,
        now_s=lambda: parts.now_s,
    )
    return TestClient(app, base_url=f"http://{host}")


@pytest.fixture
def client(parts: Remembering) -> TestClient:
    """Of a listener on loopback."""
    return client_of(parts)


@pytest.fixture
def make_client(parts: Remembering) -> Callable[..., TestClient]:
    return lambda **options: client_of(parts, **options)


@pytest.fixture
def bearer() -> dict[str, str]:
    return {"Authorization": f"Bearer {TOKEN}"}
