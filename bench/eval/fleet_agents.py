"""Who works in the made-up healthy fleet, when, and how each of them is on an ordinary day.

Nothing here is broken, and nothing is smooth either: traffic has sharp days and weeks and comes in lumps,
rates, lengths and latencies have a rhythm of their own, topics come and go, and hours are missing. All times
are epoch milliseconds; hours count from the start of the simulation, which is a Monday, midnight UTC.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

import numpy as np
from numpy.typing import NDArray

HOUR_MS: Final = 3_600_000
DAY_MS: Final = 24 * HOUR_MS
START_MS: Final = int(datetime(2027, 1, 4, tzinfo=UTC).timestamp() * 1000)
TOPICS: Final = 8
EMBEDDING: Final = 32
LANGUAGES: Final = ("en", "de", "es", "ja")
LANGUAGE_SHARES: Final = (0.6, 0.17, 0.15, 0.08)
SEGMENTS: Final = ("free", "pro", "enterprise")
SEGMENT_SHARES: Final = (0.5, 0.35, 0.15)
PROVIDERS: Final = (
    ("openai", "gpt-4o", "gpt-4o-2024-08-06", 2.5e-6, 1e-5),
    ("anthropic", "claude-sonnet-4-5", "claude-sonnet-4-5-20250929", 3e-6, 1.5e-5),
    ("google", "gemini-2.5-flash", "gemini-2.5-flash", 3e-7, 2.5e-6),
)
"""Name, model asked for, model that answers, dollars a token read and a token written."""

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of agent: how common, how busy (median sessions a day), when, and in how even a stream.

    `evenness` is the shape of the gamma noise on the sessions of an hour: a low one makes lumps. Of the
    ranges (share of refused calls, median tokens of an answer) each agent has a value of its own.
    """

    name: str
    weight: int
    sessions_a_day: float
    rhythm: str
    evenness: float
    refusal: tuple[float, float]
    output_tokens: tuple[float, float]


KINDS: Final = (
    Kind("support", 30, 60, "consumer", 6, (0.005, 0.04), (90, 220)),
    Kind("coding", 14, 8, "office", 6, (0.0005, 0.004), (120, 300)),
    Kind("extraction", 18, 130, "office", 1.5, (0.0005, 0.003), (150, 500)),
    Kind("pair", 14, 18, "office", 4, (0.002, 0.01), (150, 400)),
    Kind("router", 12, 240, "global", 6, (0.001, 0.01), (8, 16)),
    Kind("batch", 12, 45, "nightly", 20, (0.0005, 0.005), (300, 900)),
)
_HUMPS: Final[dict[str, tuple[float, float, tuple[tuple[float, float, float], ...]]]] = {
    # Floor, share of a weekday's traffic at the weekend, and humps: hour, width in hours, height.
    "office": (0.01, 0.08, ((10.5, 1.8, 1.0), (15.0, 1.8, 0.9))),
    "consumer": (0.04, 0.75, ((12.5, 3.0, 0.8), (20.0, 2.2, 1.0))),
    "global": (0.5, 0.5, ((14.0, 5.0, 0.7),)),
    "nightly": (0.0, 1.0, ((2.0, 0.35, 1.0),)),
}


@dataclass(frozen=True, slots=True)
class Agent:
    """One agent. Rates are shares of calls or sessions; `*_lengths`, `*_refusals` and `*_scores` are factors
    (scores: differences) by topic or language: constant, and different from slice to slice.

    `deployments` are (time, version, time from which every session has it); `first_ms` is when it starts.
    """

    name: str
    tenant: str
    kind: Kind
    zone_h: int
    sessions_a_day: float
    provider: int
    refusal: float
    error: float
    tool_error: float
    escalation: float
    clarification: float
    abandonment: float
    output_tokens: float
    tokens_a_second: float
    judge: float
    declares: bool
    embeds: bool
    canaries: bool
    first_ms: int
    rotated_ms: int
    topic_lengths: Floats
    topic_refusals: Floats
    language_lengths: Floats
    language_refusals: Floats
    language_scores: Floats
    centroids: Floats
    deployments: tuple[tuple[int, int, int], ...]

    @property
    def names(self) -> tuple[str, ...]:
        """The agent, and the one it works with."""
        return (self.name, f"{self.name}-worker") if self.kind.name == "pair" else (self.name,)


@dataclass(frozen=True, slots=True)
class Weather:
    """An agent's month by the hour: sessions that begin, factors on rates, lengths and latencies, the topic
    of a burst (-1: none), and by the day the topics' shares, summed up. `down` and `lost` are stretches in
    which the agent does not run, and in which it runs and its telemetry does not arrive.
    """

    sessions: NDArray[np.int64]
    rates: Floats
    lengths: Floats
    latencies: Floats
    burst: NDArray[np.int64]
    topics: Floats
    down: tuple[tuple[int, int], ...]
    lost: tuple[tuple[int, int], ...]


def recruit(tenant: str, count: int, days: int, rng: np.random.Generator) -> list[Agent]:
    """`count` agents of a tenant, those who work in pairs counted as two, in the mix of `KINDS`."""
    weights = np.array([kind.weight for kind in KINDS], dtype=float)
    agents: list[Agent] = []
    left = count
    while left:
        kind = KINDS[int(rng.choice(len(KINDS), p=weights / weights.sum()))]
        if kind.name == "pair" and left < 2:
            continue
        agents.append(_agent(f"{kind.name}-{len(agents)}", tenant, kind, days, rng))
        left -= len(agents[-1].names)
    return agents


def _agent(name: str, tenant: str, kind: Kind, days: int, rng: np.random.Generator) -> Agent:
    late = days > 10 and rng.random() < 0.15
    first_ms = START_MS + (int(rng.integers(4, 2 * days // 3)) * DAY_MS if late else 0)
    centroids = rng.normal(size=(TOPICS + 1, EMBEDDING)) / np.sqrt(EMBEDDING)
    return Agent(
        name=name,
        tenant=tenant,
        kind=kind,
        zone_h=int(rng.choice((-8, -5, 0, 1, 1, 8))),
        sessions_a_day=kind.sessions_a_day * float(rng.lognormal(0, 0.6)),
        provider=int(rng.choice(len(PROVIDERS), p=(0.5, 0.35, 0.15))),
        refusal=_between(kind.refusal, rng),
        error=_between((0.001, 0.008), rng),
        tool_error=_between((0.003, 0.03), rng),
        escalation=_between((0.03, 0.15), rng),
        clarification=_between((0.05, 0.15), rng),
        abandonment=_between((0.02, 0.1), rng),
        output_tokens=_between(kind.output_tokens, rng),
        tokens_a_second=_between((40, 120), rng),
        judge=float(rng.uniform(0.8, 0.93)),
        declares=bool(rng.random() < 0.7),
        embeds=bool(rng.random() < 0.3) and kind.name in {"support", "batch"},
        canaries=bool(rng.random() < 0.6),
        first_ms=first_ms,
        rotated_ms=START_MS + int(rng.integers(5, 60)) * DAY_MS,
        topic_lengths=rng.lognormal(0, 0.3, TOPICS),
        topic_refusals=rng.lognormal(0, 0.4, TOPICS),
        language_lengths=np.array((1.0, *rng.uniform(0.85, 1.3, len(LANGUAGES) - 1))),
        language_refusals=np.array((1.0, *rng.uniform(0.7, 1.8, len(LANGUAGES) - 1))),
        language_scores=np.array((0.0, *rng.uniform(-0.06, 0.02, len(LANGUAGES) - 1))),
        centroids=centroids,
        deployments=_deployments(first_ms, days, rng),
    )


def _deployments(first_ms: int, days: int, rng: np.random.Generator) -> tuple[tuple[int, int, int], ...]:
    """New prompt versions, in working hours, that change nothing; half are given to a few sessions first."""
    made: list[tuple[int, int, int]] = []
    time_ms = first_ms
    while True:
        time_ms += int(rng.exponential(9) * DAY_MS)
        day_ms = time_ms - (time_ms - START_MS) % DAY_MS
        deployed_ms = day_ms + int(rng.uniform(9, 17) * HOUR_MS)
        if deployed_ms >= START_MS + days * DAY_MS:
            return tuple(made)
        trial_ms = int(rng.uniform(2, 24) * HOUR_MS) if rng.random() < 0.5 else 0
        made.append((deployed_ms, len(made) + 2, deployed_ms + trial_ms))
        time_ms = deployed_ms + trial_ms


def weather(agent: Agent, days: int, holiday: int, latency: Floats, rng: np.random.Generator) -> Weather:
    """The month of one agent; `latency` is its provider's, by the hour."""
    hours = np.arange(days * 24)
    traffic = _traffic(agent, hours, holiday)
    phase = rng.uniform(0, 24, 2)
    burst = np.full(hours.size, -1)
    expected = traffic * rng.gamma(agent.kind.evenness, 1 / agent.kind.evenness, hours.size)
    if agent.kind.rhythm != "nightly":
        for hour in rng.choice(hours, size=int(rng.poisson(days / 15)), p=traffic / traffic.sum()):
            burst[hour] = rng.integers(TOPICS)
            expected[hour] = traffic[hour] * rng.uniform(5, 10)
    popular = 1 / np.arange(1, TOPICS + 1)
    topics = popular * rng.lognormal(0, 0.15, (days, TOPICS))
    return Weather(
        sessions=np.where(hours * HOUR_MS + START_MS >= agent.first_ms, rng.poisson(expected), 0),
        rates=1 + 0.3 * np.cos(2 * np.pi * (hours - phase[0]) / 24),
        lengths=1 + 0.15 * np.cos(2 * np.pi * (hours - phase[1]) / 24),
        latencies=latency,
        burst=burst,
        topics=np.cumsum(topics / topics.sum(axis=1, keepdims=True), axis=1),
        down=_stretches(0.7, (0.5, 5.0), days, rng),
        lost=_stretches(0.3, (0.3, 2.0), days, rng),
    )


def provider_latency(days: int, rng: np.random.Generator) -> Floats:
    """Factors by the hour: slower in its afternoon by up to 30%, and a wandering 8% (autocorrelation 0.9)."""
    hours = np.arange(days * 24)
    noise = np.zeros(hours.size)
    steps = rng.normal(0, 0.08 * np.sqrt(1 - 0.9**2), hours.size)
    for hour in range(1, hours.size):
        noise[hour] = 0.9 * noise[hour - 1] + steps[hour]
    rhythm: Floats = (1 + 0.3 * np.cos(2 * np.pi * (hours - 17) / 24)) * np.exp(noise)
    return rhythm


def hiccups(days: int, rng: np.random.Generator) -> tuple[tuple[int, int], ...]:
    """Stretches of two to eight minutes in which a provider fails one call in twenty."""
    return _stretches(4.0, (2 / 60, 8 / 60), days, rng)


def within(time_ms: float, stretches: Sequence[tuple[int, int]]) -> bool:
    """Whether a time lies in one of the stretches."""
    return any(begin <= time_ms < end for begin, end in stretches)


def _traffic(agent: Agent, hours: NDArray[np.int64], holiday: int) -> Floats:
    """Expected sessions an hour."""
    floor, weekend, humps = _HUMPS[agent.kind.rhythm]

    def shape(local: Floats) -> Floats:
        level = np.full(local.shape, floor)
        for centre, width, height in humps:
            apart = np.minimum((local - centre) % 24, (centre - local) % 24)
            level = level + height * np.exp(-((apart / width) ** 2) / 2)
        return level

    local = hours + agent.zone_h
    day = local // 24
    level = shape((local % 24).astype(float)) / shape(np.arange(24.0)).sum()
    level = np.where(day % 7 >= 5, level * weekend, level)
    off = (day == holiday) & (agent.kind.rhythm in {"office", "global"})
    traffic: Floats = agent.sessions_a_day * np.where(off, 0.15 * level, level)
    return traffic


def _stretches(
    a_month: float, hours: tuple[float, float], days: int, rng: np.random.Generator
) -> tuple[tuple[int, int], ...]:
    begins = np.sort(rng.uniform(0, days * DAY_MS, rng.poisson(a_month * days / 30)))
    return tuple(
        (START_MS + int(begin), START_MS + int(begin + rng.uniform(*hours) * HOUR_MS)) for begin in begins
    )


def _between(limits: tuple[float, float], rng: np.random.Generator) -> float:
    """Log-uniform."""
    return float(np.exp(rng.uniform(np.log(limits[0]), np.log(limits[1]))))
