"""What the whole catalogue says of a healthy fleet, counted; tenants run in processes of their own."""

from __future__ import annotations

import multiprocessing
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor, wait
from dataclasses import dataclass, field
from queue import Empty
from typing import Any, Final, NamedTuple

from scipy.special import gammaincinv

from bench.eval.fleet import Tenant
from bench.eval.fleet_agents import DAY_MS, START_MS
from bench.eval.page import Section
from detectors.offline import Engine
from schemas.base import epoch_ms
from schemas.event import AGENT_EVENT

BAR: Final = 1.0
TENANT_AGENTS: Final = 10
MONTH_DAYS: Final = 30
SEVERITIES: Final = ("critical", "warning", "info")
POLL_S: Final = 0.25


class Alarm(NamedTuple):
    """A detection, all of which are false here; `kind` is the agent's."""

    agent: str
    kind: str
    detector: str
    severity: str
    time_ms: int
    session: str | None
    summary: str


class Job(NamedTuple):
    """A tenant to simulate."""

    number: int
    agents: int
    days: int
    seed: int


@dataclass(slots=True)
class Counted:
    """What came of tenants: agent-days by kind, events by kind and type, sessions and kinds by agent."""

    agent_days: Counter[str] = field(default_factory=Counter)
    agents: Counter[str] = field(default_factory=Counter)
    events: Counter[tuple[str, str]] = field(default_factory=Counter)
    traffic: dict[str, list[int]] = field(default_factory=dict)
    kinds: dict[str, str] = field(default_factory=dict)
    alarms: list[Alarm] = field(default_factory=list)
    engine_s: float = 0.0

    def merge(self, other: Counted) -> None:
        """Add another tenant."""
        self.agent_days += other.agent_days
        self.agents += other.agents
        self.events += other.events
        self.traffic |= other.traffic
        self.kinds |= other.kinds
        self.alarms += other.alarms
        self.engine_s += other.engine_s

    @property
    def agent_months(self) -> float:
        """Of 30 days; an agent counts from when it started."""
        return sum(self.agent_days.values()) / MONTH_DAYS


def jobs(agents: int, days: int, seed: int) -> list[Job]:
    """The tenants of a fleet: ten agents each, the last one with the rest."""
    sizes = [TENANT_AGENTS] * (agents // TENANT_AGENTS) + [agents % TENANT_AGENTS] * (
        agents % TENANT_AGENTS > 0
    )
    return [Job(number, size, days, seed) for number, size in enumerate(sizes)]


def simulate(job: Job, passed: Callable[[int], Any] = lambda _: None) -> Counted:
    """One tenant through the engine; `passed` is told the agent-days that are done."""
    tenant = Tenant(job.number, agents=job.agents, days=job.days, seed=job.seed)
    counted, kinds = Counted(), {}
    end_ms = START_MS + job.days * DAY_MS
    for agent in tenant.members():
        for name in agent.names:
            kinds[name] = agent.kind.name
            counted.agents[agent.kind.name] += 1
            counted.agent_days[agent.kind.name] += (end_ms - agent.first_ms) // DAY_MS
            counted.kinds[f"{agent.tenant}/{name}"] = agent.kind.name
            counted.traffic[f"{agent.tenant}/{name}"] = [0] * (24 * job.days)
    engine = Engine()
    for hour, events in enumerate(tenant.hours()):
        parsed = [AGENT_EVENT.validate_python(event) for event in events]
        begun = time.process_time()
        found = [detection for event in parsed for detection in engine.process(event)]
        counted.engine_s += time.process_time() - begun
        for event in parsed:
            counted.events[kinds[event.agent], event.type] += 1
            if event.type == "session.start":
                counted.traffic[f"{event.tenant}/{event.agent}"][hour] += 1
        counted.alarms += _alarms(found, kinds)
        if hour % 24 == 23:
            passed(job.agents)
    counted.alarms += _alarms(engine.finish(), kinds)
    return counted


def run(fleet: list[Job], workers: int, passed: Callable[[int], Any]) -> Counted:
    """All tenants, in so many processes; what comes of them does not depend on how many."""
    counted = Counted()
    for each in _pooled(fleet, workers, passed) if workers > 1 else (simulate(job, passed) for job in fleet):
        counted.merge(each)
    return counted


def interval(count: int, exposure: float) -> tuple[float, float]:
    """The exact 95% interval of a Poisson rate (Garwood, 1936), per unit of exposure."""
    low = float(gammaincinv(count, 0.025)) if count else 0.0
    return low / exposure, float(gammaincinv(count + 1, 0.975)) / exposure


def _pooled(fleet: list[Job], workers: int, passed: Callable[[int], Any]) -> Iterator[Counted]:
    with multiprocessing.Manager() as manager, ProcessPoolExecutor(workers) as pool:
        done: Any = manager.Queue()
        waiting: set[Future[Counted]] = {pool.submit(simulate, job, done.put) for job in fleet}
        finished: dict[Future[Counted], None] = {}
        while waiting:
            ready, waiting = wait(waiting, timeout=POLL_S)
            finished |= dict.fromkeys(ready)
            for agent_days in _drained(done):
                passed(agent_days)
        yield from sorted((one.result() for one in finished), key=lambda one: min(one.traffic))


def _drained(queue: Any) -> Iterator[int]:
    while True:
        try:
            yield queue.get_nowait()
        except Empty:
            return


def _alarms(found: list[Any], kinds: dict[str, str]) -> list[Alarm]:
    return [
        Alarm(
            f"{one.tenant}/{one.agent}", kinds.get(one.agent, "fleet"), one.detector, one.severity,
            epoch_ms(one.time), one.session, one.summary,
        )
        for one in found
    ]  # fmt: skip


def section_of_alarms(counted: Counted) -> Section:
    """False alarms by detector against the bar."""
    page = Section("False alarms of a healthy fleet")
    months = counted.agent_months
    by_severity = Counter(alarm.severity for alarm in counted.alarms)
    critical = by_severity["critical"]
    low, high = interval(critical, months)
    rate = critical / months
    met = "met" if rate <= BAR else "**not met**"
    sure = ", with the whole interval under it" if high <= BAR else ""
    page.say(
        f"**{rate:.3f} false criticals per agent-month** ({critical:,} in {months:.1f}; 95% interval "
        f"{low:.3f} to {high:.3f}). The bar of at most {BAR:g} over the whole catalogue is {met}{sure}. "
        f"Warnings: {by_severity['warning'] / months:.2f} per agent-month."
    )
    page.table(
        ("detector", *(f"{name}s, a month" for name in SEVERITIES), "criticals", "agents with a critical",
         "agents with a warning"),
        [_row(name, counted) for name in sorted({alarm.detector for alarm in counted.alarms})],
    )  # fmt: skip
    page.figures.update(
        {
            "agent_months": round(months, 2),
            "critical_per_agent_month": round(rate, 4),
            "critical_interval_95": [round(low, 4), round(high, 4)],
            "warning_per_agent_month": round(by_severity["warning"] / months, 4),
            "detections": {
                f"{detector}/{severity}": count
                for (detector, severity), count in sorted(
                    Counter((alarm.detector, alarm.severity) for alarm in counted.alarms).items()
                )
            },
        }
    )
    return page


def _row(detector: str, counted: Counted) -> tuple[object, ...]:
    chosen = [alarm for alarm in counted.alarms if alarm.detector == detector]
    agents = {name: len({one.agent for one in chosen if one.severity == name}) for name in SEVERITIES}
    counts = Counter(alarm.severity for alarm in chosen)
    monthly = (counts[name] / counted.agent_months for name in SEVERITIES)
    return f"`{detector}`", *monthly, counts["critical"], agents["critical"], agents["warning"]


def section_of_volume(counted: Counted) -> Section:
    """What the fleet did, by kind of agent, and what was said of each kind."""
    page = Section("The fleet")
    rows = []
    for kind in sorted(counted.agents):
        days = counted.agent_days[kind]
        per_day = {
            name: sum(
                count for (of, type_), count in counted.events.items() if of == kind and name in {type_, ""}
            )
            / days
            for name in ("session.start", "llm.call", "")
        }
        said = Counter(alarm.severity for alarm in counted.alarms if alarm.kind == kind)
        monthly = (said[name] * MONTH_DAYS / days for name in ("critical", "warning"))
        rows.append((kind, counted.agents[kind], *(round(each) for each in per_day.values()), *monthly))
    page.table(
        ("kind", "agents", "sessions a day", "LLM calls a day", "events a day", "criticals a month",
         "warnings a month"),
        rows,
    )  # fmt: skip
    events = sum(counted.events.values())
    page.say(
        f"{sum(counted.agents.values())} agents, {events:,} events. The engine took "
        f"{counted.engine_s * 1e6 / events:.0f} µs an event, all stages in one thread."
    )
    page.figures.update(
        {
            "agents": dict(sorted(counted.agents.items())),
            "events": events,
            "llm_calls": sum(n for (_, type_), n in counted.events.items() if type_ == "llm.call"),
            "engine_us_per_event": round(counted.engine_s * 1e6 / events, 1),
        }
    )
    return page
