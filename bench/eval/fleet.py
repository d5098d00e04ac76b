"""A made-up fleet of healthy agents, event by event and reproducible: nothing in it deserves a page.

A tenant is a fleet of its own. Its agents, their weather and their sessions come from one seed, so the events
of a tenant are the same whoever else is simulated beside it.

>>> tenant = Tenant(0, agents=3, days=1, seed=1)
>>> events = [event for hour in tenant.hours() for event in hour]
>>> [event["time"] for event in events] == sorted(event["time"] for event in events)
True
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np

from bench.eval.fleet_agents import (
    HOUR_MS,
    PROVIDERS,
    START_MS,
    Agent,
    hiccups,
    provider_latency,
    recruit,
    weather,
    within,
)
from bench.eval.fleet_sessions import CANARIES_EVERY_MS, PLAYS, canaries, deployed
from bench.eval.fleet_writer import Desk, Event, Session


@dataclass(slots=True)
class Tenant:
    """The agents of one tenant over so many days; iterate `hours` once."""

    number: int
    agents: int
    days: int
    seed: int
    desks: list[Desk] = field(default_factory=list)
    _of: dict[str, Desk] = field(default_factory=dict)
    _sequences: dict[tuple[str, int], int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        root = np.random.SeedSequence([self.seed, self.number])
        rng = np.random.default_rng(root.spawn(1)[0])
        latencies = [provider_latency(self.days, rng) for _ in PROVIDERS]
        ills = [hiccups(self.days, rng) for _ in PROVIDERS]
        holiday = int(rng.integers(5, 30))
        for agent in recruit(f"tenant-{self.number}", self.agents, self.days, rng):
            own = np.random.default_rng(root.spawn(1)[0])
            month = weather(agent, self.days, holiday, latencies[agent.provider], own)
            desk = Desk(agent, month, ills[agent.provider], own)
            self.desks.append(desk)
            self._of |= dict.fromkeys(agent.names, desk)

    def members(self) -> list[Agent]:
        """The agents; those who work in pairs stand for two."""
        return [desk.agent for desk in self.desks]

    def hours(self) -> Iterator[list[Event]]:
        """The events of each hour in the order of their times, what runs over the end with the last hour."""
        waiting: list[Event] = [event for desk in self.desks for event in deployed(desk)]
        for hour in range(24 * self.days):
            begin_ms = START_MS + hour * HOUR_MS
            for desk in self.desks:
                waiting += _hour_of(desk, hour, begin_ms)
            waiting.sort(key=_time)
            last = hour == 24 * self.days - 1
            cut = len(waiting) if last else bisect_left(waiting, (begin_ms + HOUR_MS) / 1_000, key=_time)
            now, waiting = waiting[:cut], waiting[cut:]
            yield [event for event in now if self._arrives(event)]

    def _arrives(self, event: Event) -> bool:
        """Number the event in its process; False when its agent was down, or its telemetry was lost."""
        desk = self._of[event["agent"]]
        time_ms = event["time"] * 1_000
        if time_ms < desk.agent.first_ms or within(time_ms, desk.weather.down):
            return False
        process = sum(end <= time_ms for _, end in desk.weather.down)
        key = (event["agent"], process)
        self._sequences[key] = event["seq"] = self._sequences.get(key, 0) + 1
        event["process"] = f"{event['agent']}-{process}"
        return not within(time_ms, desk.weather.lost)


def _hour_of(desk: Desk, hour: int, begin_ms: int) -> list[Event]:
    """What the sessions of one agent that begin in an hour do, then and after."""
    agent, rng = desk.agent, desk.rng
    found: list[Event] = []
    for begin in np.sort(rng.random(int(desk.weather.sessions[hour]))):
        start_ms = begin_ms + float(begin) * HOUR_MS
        if not within(start_ms, desk.weather.down):
            session = PLAYS[agent.kind.name](desk, start_ms)
            found += _written(session)
    if agent.canaries and (begin_ms - START_MS) % CANARIES_EVERY_MS == 0:
        found += canaries(desk, begin_ms + 60_000)
    return found


def _written(session: Session) -> list[Event]:
    return [event for each in (session, *session.others) for event in each.events]


def _time(event: Event) -> float:
    time: float = event["time"]
    return time
