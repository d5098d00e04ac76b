"""The main job on the whole engine: from an agent's event to one page, an obeyed halt and an ordered resume.

`watchkeeper up` on embedded defaults, real clients, real spans; nothing in between is replaced.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

import httpx
import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter

from schemas.control import CONTROL_ACK
from schemas.topics import ACKS, CONTROL, DEAD, EVENTS, OTLP_SPANS
from tests.integration.parts.agents import (
    AGENT,
    as_request,
    build_agent,
    captured_run,
    healthy_script,
    looping_script,
)
from tests.integration.parts.engine import UpEngine
from watchkeeper_client import Denied, Halted, Watchkeeper
from watchkeeper_client.control import TrustedKeys, Verified, verify

pytestmark = [pytest.mark.embedded, pytest.mark.timeout(180)]
WAIT_S = 60.0
T = TypeVar("T")


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[UpEngine]:
    with UpEngine(tmp_path_factory.mktemp("engine")) as running:
        yield running


def until(look: Callable[[], T | None], what: str) -> T:
    """What `look` finds, once it finds something."""
    deadline = time.monotonic() + WAIT_S
    while time.monotonic() < deadline:
        found = look()
        if found is not None:
            return found
        time.sleep(0.1)
    raise AssertionError(f"waited {WAIT_S:.0f} s in vain for {what}")


def client(engine: UpEngine, agent: str, **options: Any) -> Watchkeeper:
    return Watchkeeper(bootstrap=engine.kafka, agent=agent, keys=engine.trusted_keys, **options)


def incidents(engine: UpEngine) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = httpx.get(f"{engine.http}/v1/incidents").json()["incidents"]
    return found


def incident(engine: UpEngine, incident_id: str) -> dict[str, Any]:
    view: dict[str, Any] = httpx.get(f"{engine.http}/v1/incidents/{incident_id}").json()
    return view


def incident_of(engine: UpEngine, agent: str) -> dict[str, Any] | None:
    """The agent's incident in full, once its page is delivered."""
    rows = [row for row in incidents(engine) if row["agent"] == agent]
    if not rows:
        return None
    assert len(rows) == 1, "one cause, one incident"
    view = incident(engine, rows[0]["incident_id"])
    return view if view["pages"] and all(page["state"] == "delivered" for page in view["pages"]) else None


def records(bootstrap: str, topic: str) -> list[Any]:
    """Everything in a topic now."""

    async def read() -> list[Any]:
        consumer = AIOKafkaConsumer(bootstrap_servers=bootstrap, enable_auto_commit=False)
        await consumer.start()
        try:
            await consumer.topics()
            parts = [TopicPartition(topic, number) for number in consumer.partitions_for_topic(topic) or ()]
            consumer.assign(parts)
            await consumer.seek_to_beginning(*parts)
            found: list[Any] = []
            while batch := await consumer.getmany(timeout_ms=700):
                found += [record for each in batch.values() for record in each]
            return found
        finally:
            await consumer.stop()

    return asyncio.run(read())


def produce(bootstrap: str, topic: str, key: bytes, *values: bytes) -> None:
    async def send() -> None:
        producer = AIOKafkaProducer(bootstrap_servers=bootstrap)
        await producer.start()
        try:
            for value in values:
                await producer.send_and_wait(topic, value, key=key)
        finally:
            await producer.stop()

    asyncio.run(send())


def loop_until_stopped(keeper: Watchkeeper, session: str) -> int:
    """The same call with the same result until the gate says no; how many were made."""
    with keeper.session(session) as running:
        for calls in range(400):
            try:
                keeper.gate.check(tool="list_files", session=session)
            except Denied:
                return calls
            running.tool_call("list_files", {"path": "/"}, result=["a", "b"])
            time.sleep(0.05)
    raise AssertionError("nobody stopped the loop")


def test_a_loop_is_paged_once_halted_proved_and_resumed(engine: UpEngine) -> None:
    with client(engine, "looper") as keeper:
        assert keeper.wait_heard()
        calls = loop_until_stopped(keeper, "loop-1")
        assert calls < 100
        view = until(lambda: incident_of(engine, "looper"), "a delivered page")
        assert len(view["pages"]) == 1
        assert "tool_loop" in {found["detector"] for found in view["detections"]}
        held = until(lambda: _applied(engine, view["incident_id"]), "proof that the halt was applied")
        assert held["wanted"]["mode"] == "halt"
        assert held["target"]["session"] == "loop-1"

        assert _allow(engine, "looper", "loop-1").status_code == 403
        assert _allow(engine, "looper", "another-session").status_code == 200

        assert engine.run("ack", view["incident_id"]).returncode == 0
        assert engine.run("resume", "default/looper/loop-1").returncode == 0
        until(lambda: keeper.gate.allowed(session="loop-1").allowed or None, "the gate to open again")
        assert engine.json("incident", view["incident_id"])["acknowledged_at"]


def test_commands_are_signed_and_acknowledged(engine: UpEngine) -> None:
    with client(engine, "signed") as keeper:
        assert keeper.wait_heard()
        assert engine.run("halt", "default/signed", "--reason", "a test").returncode == 0
        until(lambda: not keeper.gate.allowed(session="s").allowed or None, "the halt")
        with pytest.raises(Halted):
            keeper.gate.check(session="s")
        commands = [json.loads(record.value) for record in records(engine.kafka, CONTROL) if record.value]
        mine = next(command for command in commands if command["target"]["agent"] == "signed")
        keys = TrustedKeys.from_file(engine.trusted_keys)
        assert isinstance(verify(mine, keys, time.time() * 1000), Verified)
        forged = json.dumps({**mine, "epoch": mine["epoch"] + 1, "state": {"mode": "run"}}).encode()
        produce(engine.kafka, CONTROL, b"default/signed", forged)
        refused = until(
            lambda: next(
                (
                    ack
                    for ack in (CONTROL_ACK.validate_json(r.value) for r in records(engine.kafka, ACKS))
                    if ack.agent == "signed" and ack.result == "refused"
                ),
                None,
            ),
            "the forged command's refusal",
        )
        assert refused.reason is not None
        assert refused.reason.startswith("bad_signature")
        assert not keeper.gate.allowed(session="s").allowed


def test_a_real_agent_that_is_healthy_is_left_alone(engine: UpEngine) -> None:
    exporter = OTLPSpanExporter(endpoint=f"{engine.http}/v1/traces")
    build_agent(healthy_script, exporter).run("healthy-1")
    until(lambda: _seen(engine, "healthy-1"), "its events")
    spans = as_request(captured_run(healthy_script, "healthy-2")).SerializeToString()
    produce(engine.kafka, OTLP_SPANS, b"any", spans)  # as the Collector's Kafka exporter writes them
    until(lambda: _seen(engine, "healthy-2"), "its events")
    assert [row for row in incidents(engine) if row["session"] in ("healthy-1", "healthy-2")] == []


def test_a_real_agent_that_loops_is_stopped_before_its_next_call(engine: UpEngine) -> None:
    made: list[str] = []
    with client(engine, AGENT) as keeper:
        assert keeper.wait_heard()

        def before_tool(tool: str) -> None:
            keeper.gate.check(tool=tool, session="looping-1")
            made.append(tool)
            time.sleep(0.2)  # a tool that takes its time, as tools do

        exporter = OTLPSpanExporter(endpoint=f"{engine.http}/v1/traces")
        agent = build_agent(looping_script(200), exporter, before_tool=before_tool)
        with pytest.raises(Denied):
            agent.run("looping-1")
    assert 3 <= len(made) < 60
    view = until(lambda: incident_of(engine, AGENT), "a delivered page")
    assert "tool_loop" in {found["detector"] for found in view["detections"]}


def test_bad_input_becomes_one_dead_letter_each_and_harms_nobody(engine: UpEngine) -> None:
    now = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    good = {"schema": "agent.event/1", "type": "heartbeat", "time": now, "agent": "bad", "session": "bad-1"}
    bad = {
        "malformed": b"{not json",
        "too_large": json.dumps({**good, "event_id": "x" * 300_000}).encode(),
        "too_deep": b"[" * 40 + b"]" * 40,
        "not_finite": json.dumps({**good, "event_id": "nan", "x": float("nan")}).encode(),
        "duplicate_key": b'{"schema": "agent.event/1", "schema": "agent.event/1"}',
        "unknown_type": json.dumps({**good, "event_id": "t", "type": "nonsense"}).encode(),
        "unknown_schema": json.dumps({**good, "event_id": "v", "schema": "agent.event/9"}).encode(),
        "clock": json.dumps({**good, "event_id": "c", "time": "2001-01-01T00:00:00Z"}).encode(),
    }
    neighbours = [json.dumps({**good, "event_id": f"good-{number}"}).encode() for number in range(len(bad))]
    produce(
        engine.kafka,
        EVENTS,
        b"bad-1",
        *(value for pair in zip(bad.values(), neighbours, strict=True) for value in pair),
    )

    def letters() -> list[dict[str, Any]] | None:
        found = [json.loads(record.value) for record in records(engine.kafka, DEAD) if record.key == b"bad-1"]
        return found if len(found) >= len(bad) else None

    found = until(letters, "the dead letters")
    assert sorted(letter["reason"] for letter in found) == sorted(bad)
    assert all(letter["detail"] for letter in found)


def test_events_over_http_reach_the_same_topic(engine: UpEngine) -> None:
    event = {
        "schema": "agent.event/1",
        "event_id": "over-http",
        "type": "heartbeat",
        "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "agent": "web",
        "session": "over-http-1",
    }
    answer = httpx.post(f"{engine.http}/v1/events", json=[event, {**event, "type": "nonsense"}])
    assert answer.status_code < 300, answer.text
    until(lambda: _seen(engine, "over-http-1"), "the event")


def test_what_changes_state_over_http_needs_the_token(engine: UpEngine) -> None:
    order = {"action": "halt", "target": "default/nobody"}
    url = f"{engine.http}/v1/control"
    assert httpx.post(url, json=order).status_code == 401
    assert httpx.post(url, json=order, headers={"Authorization": "Bearer wrong"}).status_code == 403
    assert httpx.post(url, json=order, headers={"Authorization": f"Bearer {engine.token}"}).status_code == 202


def test_health_and_metrics(engine: UpEngine) -> None:
    assert httpx.get(f"{engine.http}/healthz").status_code == 200
    assert until(lambda: httpx.get(f"{engine.http}/readyz").status_code == 200 or None, "readiness")
    assert "watchkeeper_http_events" in httpx.get(f"{engine.http}/metrics").text
    assert httpx.get(f"{engine.http}/v1/incidents").json()["incidents"]


def test_agents_are_listed_with_their_health(engine: UpEngine) -> None:
    with client(engine, "well") as keeper, keeper.session() as session:
        session.tool_call("search", {"q": "shoes"}, result=["a"])

    def listed() -> dict[str, Any] | None:
        rows = httpx.get(f"{engine.http}/v1/agents").json()["agents"]
        return next((row for row in rows if row["agent"] == "well" and row["health"]), None)

    row = until(listed, "the agent's health")
    assert row["health"]["state"] == "cannot tell", "of one call nothing can be told"
    done = engine.run("agents", "--bootstrap", engine.kafka, "--json")
    assert done.returncode == 0, done.stderr
    assert "well" in {each["agent"] for each in json.loads(done.stdout) if each["health"]}


def test_drills_against_the_running_engine(engine: UpEngine) -> None:
    done = engine.run(
        "drill", "clarification-loop", "bad-credentials-retry", "--bootstrap", engine.kafka, "--json"
    )
    assert done.returncode == 0, done.stdout + done.stderr
    scores = {score["drill"]: score for score in json.loads(done.stdout)}
    loop = scores["clarification-loop"]
    assert loop["passed"]
    assert loop["contained"]
    assert loop["usd_to_detection"] < 1


def test_doctor_knows_that_nobody_is_paged_in_slack(engine: UpEngine) -> None:
    done = engine.run("doctor", "--bootstrap", engine.kafka)
    assert done.returncode == 0, done.stdout
    assert "pages go to the terminal" in done.stdout


def test_the_stream_worker_is_scraped_with_the_responder(engine: UpEngine) -> None:
    def scraped() -> str | None:
        text = httpx.get(f"{engine.http}/metrics").text
        return text if 'watchkeeper_stream_lag_records{partition="0",topic="agent.events"}' in text else None

    shown = until(scraped, "the stream worker's metrics")
    assert 'watchkeeper_stream_events_total{stage="sessions"}' in shown
    assert "watchkeeper_responder_records_total" in shown


def test_it_stops_cleanly_and_incidents_survive(engine: UpEngine) -> None:
    before = {row["incident_id"] for row in incidents(engine)}
    assert engine.stop() == 0
    with UpEngine(engine.data_dir) as again:
        assert {row["incident_id"] for row in again.json("incidents")} == before
        with client(again, "signed") as keeper:
            assert keeper.wait_heard()
            until(
                lambda: not keeper.gate.allowed(session="s").allowed or None,
                "the halt, which outlives a broker that forgets",
            )


def _applied(engine: UpEngine, incident_id: str) -> dict[str, Any] | None:
    held = incident(engine, incident_id)["containments"]
    return next((each for each in held if each["applied_at"]), None)


def _allow(engine: UpEngine, agent: str, session: str) -> httpx.Response:
    return httpx.get(f"{engine.http}/v1/allow", params={"agent": agent, "session": session, "tool": "t"})


def _seen(engine: UpEngine, session: str) -> list[Any] | None:
    return [record for record in records(engine.kafka, EVENTS) if record.key == session.encode()] or None
