"""The picture of the signal: drawn from what is on the bus, and once in the thread of its page."""

from __future__ import annotations

import io
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from aiokafka import AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from cli.broker import EmbeddedBroker
from detectors.activity import Activity
from detectors.windows import Mark, ProviderCalls, Window
from responders.effects import Delivered, Retryable
from responders.fake_slack import FakeSlack, Fault
from responders.handle import Responder
from responders.incident import Incident
from responders.incident_log import KafkaIncidentLog
from responders.pages.page import Message
from responders.picture import canvas, reading, session_plot, signal_plot
from responders.picture.moments import Moment, moments_of
from responders.picture.pictures import Picture, Pictures
from responders.policy import DEFAULT
from responders.sender import Outgoing, Sender
from responders.slack.channel import SlackChannel
from responders.store.event_store import Store
from schemas import topics
from schemas.base import epoch_ms
from schemas.control import ControlState
from schemas.detection import Detection, Evidence, OffsetRange
from schemas.event import AGENT_EVENT, AgentEvent
from tests.responders.world import ABOUT, START, Clock, KeptBus, detection

PICTURE = Picture("picture:INC-1:opened:slack:#incidents", "billing loops", b"\x89PNG not really")
PLAIN_TEXT = st.text(max_size=60)


def call(number: int, **changes: Any) -> AgentEvent:
    fields: dict[str, Any] = {
        "schema": "agent.event/1",
        "event_id": f"e-{number}",
        "type": "tool.call",
        "time": (START + timedelta(seconds=number)).isoformat(),
        "agent": "billing",
        "session": "s-1",
        "tool": "list_files",
        "arguments_hash": "a1",
        "status": "ok",
    }
    return AGENT_EVENT.validate_python(fields | changes)


def paid(number: int, **changes: Any) -> AgentEvent:
    return call(
        number,
        type="llm.call",
        request_model="m",
        input_tokens=100,
        output_tokens=10,
        cost_usd=0.01,
        tool=None,
        arguments_hash=None,
        **changes,
    )


def window(second: int, refusals: int, agent: str = "billing") -> Window:
    return Window(
        tenant="default",
        agent=agent,
        start_ms=int(epoch_ms(START)) + 1000 * second,
        duration_ms=1000,
        source_partition=0,
        parts={"": Activity(refusals_known=10, refusals=refusals)},
    )


def refusing(**changes: Any) -> Detection:
    fields: dict[str, Any] = {
        "detector": "refusal_rate",
        "metric": "refusal_rate",
        "session": None,
        "observed": 0.3,
        "expected": 0.1,
        "onset": START + timedelta(seconds=20),
        "time": START + timedelta(seconds=30),
        "suggested": ControlState(mode="degrade", ladder="rag"),
    }
    return detection(**(fields | changes))


def opened(seen: Detection) -> Incident:
    responder = Responder(Store.in_memory(), DEFAULT.with_channels("desk"), Clock())
    incident = responder.detection(seen)
    assert incident is not None
    return incident


def size_of(png: bytes | None) -> tuple[int, int]:
    assert png is not None
    with Image.open(io.BytesIO(png)) as image:
        image.verify()
        return image.size


# What is drawn


def test_a_session_is_drawn_act_by_act_with_what_it_spent() -> None:
    events = [call(0), paid(1), call(2, status="error"), paid(3), call(4, agent="helper")]
    moments = [Moment("onset", START, "began (estimate)"), Moment("noticed", START, "noticed")]
    width, height = (int(inches * canvas.DPI) for inches in canvas.SIZE_INCHES)
    assert size_of(session_plot.draw(detection(), events, moments)) == (width, height)
    assert session_plot.draw(detection(), [], moments) is None


def test_an_agent_is_drawn_over_time_once_there_is_something_to_see() -> None:
    windows = [window(second, refusals=1 + second // 20) for second in range(40)]
    moments = [Moment("noticed", START + timedelta(seconds=30), "noticed")]
    assert size_of(signal_plot.draw(refusing(), windows, moments))[0] > 0
    assert signal_plot.draw(refusing(), windows[:2], moments) is None


@settings(max_examples=10, deadline=None)
@given(summary=PLAIN_TEXT, tool=st.text(min_size=1, max_size=40), label=PLAIN_TEXT)
def test_whatever_names_say_is_drawn_as_it_is(summary: str, tool: str, label: str) -> None:
    """Dollar signs begin mathematics in matplotlib, and unbalanced ones would end the drawing."""
    events = [call(0, tool=f"{tool}$x_{{"), call(1)]
    seen = detection().model_copy(update={"summary": f"$\\frac{{ {summary}"})
    assert session_plot.draw(seen, events, [Moment("noticed", START, f"${label}")]) is not None


def test_moments_are_those_of_the_order_and_of_its_proof() -> None:
    incident = opened(detection())
    assert [each.kind for each in moments_of(incident, detection())] == ["onset", "noticed", "ordered"]
    assert [each.kind for each in moments_of(opened(detection(suggested=None)), detection())] == [
        "onset",
        "noticed",
    ]


# From the bus


@pytest.fixture
async def broker(tmp_path: Path) -> AsyncIterator[str]:
    embedded = EmbeddedBroker(tmp_path)
    embedded.start()
    try:
        admin: Any = AIOKafkaAdminClient(bootstrap_servers=embedded.address)
        await admin.start()
        new_topic: Any = NewTopic
        await admin.create_topics([new_topic(topics.WINDOWS, 3, 1), new_topic(topics.EVENTS, 3, 1)])
        await admin.close()
        yield embedded.address
    finally:
        embedded.stop()


async def produce(address: str, records: list[tuple[str, bytes, bytes]]) -> list[Any]:
    producer: Any = AIOKafkaProducer(bootstrap_servers=address)
    await producer.start()
    try:
        return [await producer.send_and_wait(topic, value, key=key) for topic, key, value in records]
    finally:
        await producer.stop()


@pytest.mark.embedded
async def test_an_agents_windows_are_read_back_and_nobody_elses(broker: str) -> None:
    mine = [window(second, refusals=second) for second in range(30)]
    others = [window(second, refusals=9, agent="other") for second in range(30)]
    mark = Mark(source_partition=0, watermark_ms=1)
    records = [(topics.WINDOWS, each.key.encode(), each.encode()) for each in (*others, *mine)]
    records += [(topics.WINDOWS, b"default/billing", bad) for bad in (b"no json", mark.encode())]
    await produce(broker, records)
    found = await reading.windows({"bootstrap_servers": broker}, refusing())
    assert [(each.agent, each.start_ms) for each in found] == [(each.agent, each.start_ms) for each in mine]


@pytest.mark.embedded
async def test_a_fleets_windows_show_its_providers(broker: str) -> None:
    def fleet(second: int, errors: int) -> Window:
        made = window(second, 0, agent="")
        made.parts, made.providers = {}, {"openai": ProviderCalls(10, errors)}
        return made

    made = [fleet(second, 9 if second > 20 else 0) for second in range(30)]
    await produce(broker, [(topics.WINDOWS, each.key.encode(), each.encode()) for each in made])
    seen = refusing(detector="provider_outage", agent="*", metric="openai")
    found = await reading.windows({"bootstrap_servers": broker}, seen)
    assert len(found) == 30
    assert size_of(signal_plot.draw(seen, found, []))[0] > 0


@pytest.mark.embedded
async def test_a_session_is_read_back_from_before_its_evidence(broker: str) -> None:
    events = [call(number, session="s-1" if number % 2 else "s-2") for number in range(20)]
    values = [AGENT_EVENT.dump_json(each) for each in events]
    batch = b"[" + b",".join(AGENT_EVENT.dump_json(call(number)) for number in (20, 21)) + b"]"
    sent = await produce(
        broker, [(topics.EVENTS, b"same", value) for value in (*values, b"no json", values[1], batch)]
    )
    place = OffsetRange(topic=topics.EVENTS, partition=sent[0].partition, from_offset=11, to_offset=13)
    seen = detection(evidence=Evidence(event_ids=["e-11"], ranges=[place]))
    found = await reading.session({"bootstrap_servers": broker}, seen)
    assert [each.event_id for each in found] == [f"e-{number}" for number in (*range(1, 20, 2), 20, 21)]
    picture = await Pictures({"bootstrap_servers": broker}).of(opened(seen), "picture:1")
    assert picture is not None
    assert size_of(picture.png)[0] > 0


async def test_without_a_broker_there_is_no_picture_and_no_fuss() -> None:
    options = {"bootstrap_servers": "127.0.0.1:1", "request_timeout_ms": 500}
    assert await Pictures(options).of(opened(refusing()), "picture:1") is None


# Into the thread


class Drawn:
    """Draws the same picture of everything, or nothing."""

    def __init__(self, picture: Picture | None) -> None:
        self._picture = picture

    async def of(self, incident: Incident, key: str) -> Picture | None:
        return self._picture and Picture(key, incident.summary, self._picture.png)


async def settled(responder: Responder, channel: SlackChannel, drawn: Drawn, clock: Clock) -> None:
    sender = Sender(responder, {"slack:#incidents": channel}, KafkaIncidentLog(KeptBus()), pictures=drawn)
    for _ in range(12):
        await sender.run_once()
        clock.pass_seconds(31)


@pytest.mark.parametrize("fault", [None, *(fault for fault in Fault if fault is not Fault.REFUSED)])
@pytest.mark.parametrize("method", ["files.getUploadURLExternal", "files.completeUploadExternal"])
async def test_the_picture_is_in_the_thread_once_through_any_fault(
    sqlite_store: Store, slack: FakeSlack, channel: SlackChannel, method: str, fault: Fault | None
) -> None:
    clock = Clock()
    responder = Responder(sqlite_store, DEFAULT.with_channels("slack:#incidents"), clock)
    responder.detection(detection(suggested=None))
    if fault is not None:
        slack.fail(method, fault)
    await settled(responder, channel, Drawn(PICTURE), clock)
    (page,) = [each for each in slack.messages if each.thread_ts is None]
    (shown,) = [each for each in slack.messages if each.files]
    assert shown.thread_ts == page.ts
    assert [file.content for file in shown.files] == [PICTURE.png]


async def test_what_cannot_be_drawn_or_shown_is_let_go(
    sqlite_store: Store, slack: FakeSlack, channel: SlackChannel
) -> None:
    clock = Clock()
    responder = Responder(sqlite_store, DEFAULT.with_channels("slack:#incidents"), clock)
    responder.detection(detection(suggested=None))
    await settled(responder, channel, Drawn(None), clock)
    slack.refusal = "missing_scope"
    slack.fail("files.getUploadURLExternal", *[Fault.REFUSED] * 3)
    responder.detection(detection("d-2", agent="other", session="s-2", suggested=None))
    await settled(responder, channel, Drawn(PICTURE), clock)
    assert slack.calls.count("files.getUploadURLExternal") == 1
    assert not any(each.files for each in slack.messages)


async def test_a_picture_in_doubt_is_looked_for_first(slack: FakeSlack, channel: SlackChannel) -> None:
    message = Message("billing loops", (), ABOUT)
    posted = await channel.send(Outgoing("page:1", message, START, attempts=1, in_doubt=False, thread=None))
    assert isinstance(posted, Delivered)
    place = (posted.conversation, posted.message)
    assert isinstance(await channel.show(*place, PICTURE, in_doubt=False), Delivered)
    assert isinstance(await channel.show(*place, PICTURE, in_doubt=True), Delivered)
    slack.fail("conversations.replies", Fault.SERVER_ERROR)
    answer = await channel.show(*place, PICTURE, in_doubt=True)
    assert isinstance(answer, Retryable)
    assert answer.in_doubt
    assert len([each for each in slack.messages if each.files]) == 1
