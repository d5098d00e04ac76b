"""The engine without a bus, from an agent's event to a page in the fake Slack, on a simulated clock."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Iterable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import aiohttp
import orjson

from detectors.base import Source
from detectors.behaviour_pipeline import BehaviourPipeline, BehaviourPipelineOutput
from detectors.control import Held
from detectors.offline import Engine
from detectors.windows import Window, WindowRecord
from drills.offline import play
from drills.script import Drill
from responders import keys
from responders.control import ControlPublisher
from responders.effects import Delivered, Outcome
from responders.fake_slack import GOOD_TOKEN, FakeSlack
from responders.handle import Responder
from responders.incident import Incident
from responders.incident_log import KafkaIncidentLog
from responders.picture import session_plot, signal_plot
from responders.picture.moments import moments_of
from responders.picture.pictures import Picture
from responders.policy import parse
from responders.sender import Sender
from responders.slack.channel import SlackChannel
from responders.store.event_store import Store
from responders.store.migrations import upgrade
from schemas import topics
from schemas.base import epoch_ms
from schemas.control import Control, ControlAck
from schemas.detection import Detection
from schemas.event import AGENT_EVENT, AgentEvent

START = datetime(2026, 3, 2, 3, 4, 10, tzinfo=UTC)
OBEYED_AFTER = timedelta(milliseconds=340)
CHANNEL = "#incidents"


class Recorded(BehaviourPipeline):
    """The behaviour pipeline, and the windows that came through it."""

    def __init__(self) -> None:
        super().__init__(1)
        self.windows: list[Window] = []

    def process(self, item: WindowRecord, source: Source) -> list[BehaviourPipelineOutput]:
        if isinstance(item, Window) and item.agent:
            self.windows.append(item)
        return super().process(item, source)


@dataclass
class Commands:
    """A bus that keeps the commands."""

    sent: list[Control] = field(default_factory=list)

    async def deliver(self, topic: str, key: bytes, value: bytes) -> Outcome:
        if topic == topics.CONTROL:
            self.sent.append(Control.model_validate(orjson.loads(value)))
        return Delivered()


@dataclass
class Stage:
    """One scene: what happens is told with `play`, and time passes with `wait`."""

    slack: FakeSlack
    responder: Responder
    commands: Commands
    sender: Sender
    publisher: ControlPublisher
    pictures: Drawn
    engine: Engine = field(default_factory=Engine)
    obeys: bool = True
    _reached: int = 0

    @property
    def now(self) -> datetime:
        return self.pictures.now

    async def play(
        self, drill: Drill, *, stretch: float = 1.0, most: int = 20_000, after: int = 0
    ) -> Incident:
        """Plays a drill until ``after`` events after its first critical detection; the incident it made.

        ``stretch`` makes its pauses longer: drills are quick.
        """
        self.engine.behaviour = self.pictures.recorded
        incident: Incident | None = None
        left = after
        for event in events_of(drill, stretch, most):
            self.pictures.now = event.time
            self.pictures.events.append(event)
            for detection in self.engine.process(event):
                if detection.severity == "info":
                    continue
                seen = await asyncio.to_thread(self.responder.detection, detection)
                if incident is None and seen is not None and seen.severity == "critical":
                    incident = seen
                await self.work()
            left -= incident is not None
            if left < 0:
                break
        assert incident is not None, f"{drill.name} found nothing critical"
        return incident

    async def see(self, detections: Iterable[Detection]) -> None:
        for detection in detections:
            await asyncio.to_thread(self.responder.detection, detection)
        await self.work()

    async def wait(self, seconds: float) -> None:
        """Lets time pass, with all that is due in it."""
        for _ in range(int(seconds)):
            self.pictures.now += timedelta(seconds=1)
            await asyncio.to_thread(self.responder.fire_timers)
            await self.work()

    async def work(self) -> None:
        """Everything that can be done now: pages, commands, and the agents' answers to these."""
        while True:
            done = await self.sender.run_once() + await self.publisher.run_once()
            for command in self.commands.sent[self._reached :]:
                await self._reaches(command)
                done += 1
            self._reached = len(self.commands.sent)
            if not done:
                return

    async def _reaches(self, command: Control) -> None:
        """The workers know what is ordered; the agent obeys, or does not."""
        target = command.target
        if command.state.mode == "halt":
            held = Held(command.command_id, float(epoch_ms(self.now)), float("inf"))
            self.engine.halts.put((target.tenant, target.agent, target.session), held)
        if self.obeys:
            self.pictures.now += OBEYED_AFTER
            await asyncio.to_thread(self.responder.ack, _obeyed(command, self.now))


@dataclass
class Drawn:
    """Where pictures come from when there is no bus: from what was played. It has the clock, too."""

    now: datetime = START
    events: list[AgentEvent] = field(default_factory=list)
    recorded: Recorded = field(default_factory=Recorded)

    async def of(self, incident: Incident, key: str) -> Picture | None:
        detection = incident.worst
        if detection is None:
            return None
        moments = moments_of(incident, detection)
        if detection.session is not None:
            events = [each for each in self.events if each.session == detection.session]
            png = session_plot.draw(detection, events, moments)
        else:
            windows = [each for each in self.recorded.windows if each.agent == detection.agent]
            png = signal_plot.draw(detection, windows, moments)
        return None if png is None else Picture(key, detection.summary, png)


def events_of(drill: Drill, stretch: float, most: int) -> Iterator[AgentEvent]:
    start_ms = epoch_ms(START)
    for _, fields in play(drill, seed=3, run="7f3a", start_ms=start_ms, tenant="default", most=most):
        event = AGENT_EVENT.validate_python(fields)
        passed = (event.time - START) * stretch
        yield event.model_copy(update={"time": START + passed})


@asynccontextmanager
async def stage(folder: Path, policy: str) -> AsyncIterator[Stage]:
    """An empty stage under the policy with this text; ``folder`` keeps its store and keys."""
    url = f"sqlite:///{folder / 'store.db'}"
    upgrade(url)
    store = Store.open(url)
    pictures = Drawn()

    def now() -> datetime:
        return pictures.now

    slack = FakeSlack(now_s=lambda: now().timestamp())
    responder = Responder(store, parse(policy), now)
    keys.load_or_create(folder)
    commands = Commands()
    base_url = await slack.start()
    async with aiohttp.ClientSession() as session:
        channel = SlackChannel(GOOD_TOKEN, CHANNEL, base_url, session)
        sender = Sender(responder, {channel.name: channel}, KafkaIncidentLog(commands), pictures=pictures)
        publisher = ControlPublisher(responder, commands, keys.load(folder))
        try:
            yield Stage(slack, responder, commands, sender, publisher, pictures)
        finally:
            await slack.stop()
            store.close()


def _obeyed(command: Control, now: datetime) -> ControlAck:
    target = command.target
    fields: dict[str, Any] = {
        "command_id": command.command_id,
        "epoch": command.epoch,
        "agent": target.agent,
        "tenant": target.tenant,
        "session": target.session,
        "enforcement_point": f"{target.agent}-{random.Random(target.agent).randrange(16**4):04x}",
        "result": "applied",
        "time": now,
    }
    return ControlAck(**fields)
