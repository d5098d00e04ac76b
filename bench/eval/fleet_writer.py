"""Writes down what one session of a healthy agent does, as its client would: hashes, lengths, shapes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple

import numpy as np

from bench.eval.fleet_agents import (
    HOUR_MS,
    LANGUAGE_SHARES,
    LANGUAGES,
    PROVIDERS,
    SEGMENT_SHARES,
    SEGMENTS,
    START_MS,
    TOPICS,
    Agent,
    Weather,
    within,
)

Event = dict[str, Any]

HICCUP_ERRORS: Final = 0.05
MAX_ATTEMPTS: Final = 5
MAX_OUTPUT_TOKENS: Final = 16_384
LLM_ERRORS: Final = ("rate_limit_exceeded", "timeout", "server_error", "overloaded_error")
TOOL_ERRORS: Final = ("timeout", "not_found", "connection_reset")
_LANGUAGE_STEPS: Final = np.cumsum(LANGUAGE_SHARES)
_SEGMENT_STEPS: Final = np.cumsum(SEGMENT_SHARES)


class Tool(NamedTuple):
    """A tool as its results look: `items` is the mean number of them, `empty` the share of results without
    any; `confirmed` tools have an effect that downstream confirms.
    """

    name: str
    required: tuple[str, ...]
    optional: tuple[str, ...] = ()
    shape: str = "{ok:bool}"
    effect: str | None = None
    irreversible: bool = False
    confirmed: bool = False
    items: float | None = None
    empty: float = 0.0
    median_ms: float = 200.0


@dataclass(slots=True)
class Desk:
    """What an agent carries from session to session: its weather and its numbers."""

    agent: Agent
    weather: Weather
    hiccups: tuple[tuple[int, int], ...]
    rng: np.random.Generator
    sessions: int = 0
    events: int = 0

    def hour(self, time_ms: float) -> int:
        """The hour of the simulation, the last one for what runs over its end."""
        return min(int(time_ms - START_MS) // HOUR_MS, len(self.weather.rates) - 1)


@dataclass(slots=True)
class Session:
    """One session being written; `events` are in the order of writing, not of time.

    `risk` is how refusable what is asked for is, the same for the whole session; `heat` is for one that goes
    on about what was refused.
    """

    desk: Desk
    clock_ms: float
    tools: tuple[Tool, ...]
    goal: str
    parent: str | None = None
    budget: dict[str, Any] | None = None
    events: list[Event] = field(default_factory=list)
    others: list[Session] = field(default_factory=list)
    name: str = ""
    speaker: str = ""
    topic: int = 0
    risk: float = 1.0
    heat: float = 0.0
    length: float = 1.0
    language: int = 0
    attributes: dict[str, Any] = field(default_factory=dict)
    prompt_version: str = ""
    user: str | None = None
    credential: str = ""
    failed: bool = False

    def __post_init__(self) -> None:
        desk, agent, rng = self.desk, self.desk.agent, self.desk.rng
        desk.sessions += 1
        self.name = f"{agent.name}-s{desk.sessions}"
        self.speaker = agent.name
        hour = desk.hour(self.clock_ms)
        burst = int(desk.weather.burst[hour])
        alike = burst >= 0 and rng.random() < 0.8
        popular = desk.weather.topics[min(hour // 24, len(desk.weather.topics) - 1)]
        self.topic = burst if alike else min(int(np.searchsorted(popular, rng.random())), TOPICS - 1)
        self.language = int(np.searchsorted(_LANGUAGE_STEPS, rng.random()).clip(0, len(LANGUAGES) - 1))
        segment = int(np.searchsorted(_SEGMENT_STEPS, rng.random()).clip(0, len(SEGMENTS) - 1))
        self.attributes = {"language": LANGUAGES[self.language], "segment": SEGMENTS[segment]}
        self.risk = float(rng.gamma(2.0, 0.5) * agent.topic_refusals[self.topic])
        self.risk *= float(agent.language_refusals[self.language])
        self.length = float(agent.topic_lengths[self.topic] * agent.language_lengths[self.language])
        self.length *= float(rng.lognormal(0, 0.15))
        self.prompt_version = f"v{self._version()}"
        # Renewed once in a while; a session goes on with the one it began with.
        self.credential = f"key-{agent.name}-{1 + (self.clock_ms >= agent.rotated_ms)}"
        self._start()

    def pause(self, seconds: float) -> None:
        """Let time pass: between half and one and a half of it."""
        self.clock_ms += 1_000 * seconds * (0.5 + self.desk.rng.random())

    def chance(self, share: float) -> bool:
        """Whether something happens that happens in this share of cases."""
        return bool(self.desk.rng.random() < share)

    def add(self, type_: str, *, after_s: float = 0.0, **fields: Any) -> str:
        """Write an event, `after_s` from now; what is None is left out. Returns its id."""
        desk = self.desk
        desk.events += 1
        event_id = f"{desk.agent.name}-e{desk.events}"
        self.events.append(
            {
                "type": type_,
                "event_id": event_id,
                "time": (self.clock_ms + 1_000 * after_s) / 1_000,
                "tenant": desk.agent.tenant,
                "agent": self.speaker,
                "session": self.name,
                "attributes": self.attributes,
                **{name: value for name, value in fields.items() if value is not None},
            }
        )
        return event_id

    def llm(
        self, *, size: float = 1.0, context: int = 900, cached: int = 0, confidence: float | None = None
    ) -> tuple[str, bool]:
        """A model call, tried again with growing waits while it fails. Its id, and whether it refused."""
        desk, agent, rng = self.desk, self.desk.agent, self.desk.rng
        hour = desk.hour(self.clock_ms)
        provider, asked, answers, in_usd, out_usd = PROVIDERS[agent.provider]
        call: Event = {"provider": provider, "request_model": asked, "prompt_version": self.prompt_version}
        for attempt in range(MAX_ATTEMPTS):
            ill = within(self.clock_ms, desk.hiccups)
            if not self.chance(HICCUP_ERRORS if ill else agent.error):
                break
            kind = LLM_ERRORS[int(rng.integers(len(LLM_ERRORS)))]
            wait_ms = 30_000.0 if kind == "timeout" else float(rng.uniform(80, 900))
            self.clock_ms += wait_ms
            self.add(
                "llm.call", **call, input_tokens=context, output_tokens=0, status="error", error_type=kind,
                duration_ms=wait_ms,
            )  # fmt: skip
            self.pause(2.0**attempt)
        else:
            self.failed = True
            return "", False
        refused = self.chance(max(agent.refusal * self.risk * float(desk.weather.rates[hour]), self.heat))
        self.heat = 0.25 if refused else 0.0
        median = agent.output_tokens * size * self.length * float(desk.weather.lengths[hour])
        tokens = int(rng.lognormal(np.log(40 if refused else median), 0.4 if refused else 0.5)) + 1
        cut = tokens > MAX_OUTPUT_TOKENS
        tokens = min(tokens, MAX_OUTPUT_TOKENS)
        slow = float(desk.weather.latencies[hour] * rng.lognormal(0, 0.25))
        slow *= float(rng.uniform(3, 8)) if self.chance(0.004) else 1.0
        first_ms = (350 + context / 40) * slow
        duration_ms = first_ms + 1_000 * tokens / agent.tokens_a_second * slow
        self.clock_ms += duration_ms
        event_id = self.add(
            "llm.call", **call, response_model=answers, input_tokens=context, output_tokens=tokens,
            cache_read_tokens=cached or None, cost_usd=in_usd * (context - 0.9 * cached) + out_usd * tokens,
            duration_ms=duration_ms, ttft_ms=first_ms, finish_reasons=["length" if cut else "stop"],
            refusal=refused, confidence=confidence, output_chars=4 * tokens, status="ok",
            embedding=self._embedding(refused) if agent.embeds else None,
        )  # fmt: skip
        return event_id, refused

    def tool(self, tool: Tool, *, approval: str | None = None, arguments: str | None = None) -> bool:
        """A tool call, tried at most twice more if it fails. Whether it worked."""
        agent, rng = self.desk.agent, self.desk.rng
        keys = [*tool.required, *(key for key in tool.optional if self.chance(0.4))]
        call: Event = {
            "tool": tool.name,
            "arguments_hash": arguments or self._hash(),
            "argument_keys": sorted(keys),
            "credential": self.credential,
        }
        for attempt in range(3):
            duration_ms = float(rng.lognormal(np.log(tool.median_ms), 0.5))
            self.clock_ms += duration_ms
            if not self.chance(agent.tool_error):
                break
            kind = TOOL_ERRORS[int(rng.integers(len(TOOL_ERRORS)))]
            self.add("tool.call", **call, status="error", error_type=kind, duration_ms=duration_ms)
            self.pause(1 + attempt)
        else:
            return False
        items = None
        if tool.items is not None:
            items = 0 if self.chance(tool.empty) else 1 + int(rng.poisson(tool.items))
        event_id = self.add(
            "tool.call", **call, status="ok", duration_ms=duration_ms, result_hash=self._hash(),
            result_shape="{items:[]}" if items == 0 else tool.shape, result_items=items,
            result_total=None if items is None else items, effect=tool.effect,
            irreversible=tool.irreversible or None, approval=approval,
        )  # fmt: skip
        if tool.confirmed:
            self.add("effect", after_s=float(rng.exponential(5)), ref=event_id, confirmed=True)
        return True

    def judge(self, names: Sequence[str], share: float, ref: str) -> None:
        """Have a share of sessions scored, one to two minutes after."""
        if not self.chance(share):
            return
        agent, rng = self.desk.agent, self.desk.rng
        mean = float(np.clip(agent.judge + agent.language_scores[self.language], 0.05, 0.97))
        quality = float(rng.beta(mean * 14, (1 - mean) * 14))
        after_s = float(rng.uniform(60, 120))
        for name in names:
            score = float(np.clip(quality + rng.normal(0, 0.04), 0, 1))
            self.add(
                "evaluation", after_s=after_s, name=name, score=score, ref=ref or None, evaluator="judge-1"
            )

    def grade(self, name: str, confidence: float, share: float, ref: str) -> None:
        """Have a share of answers checked by someone who knows: right as often as the confidence says."""
        if ref and self.chance(share):
            right = self.chance(confidence)
            self.add(
                "evaluation", after_s=float(self.desk.rng.exponential(600)), name=name, score=float(right),
                label="correct" if right else "wrong", ref=ref, evaluator="people",
            )  # fmt: skip

    def feedback(self) -> None:
        """Now and then a thumb, seldom a ticket."""
        if self.chance(0.04):
            value = 1.0 if self.chance(0.87) else -1.0
            self.add("feedback", after_s=float(self.desk.rng.uniform(5, 60)), kind="thumb", value=value)
        if self.chance(0.002):
            self.add("feedback", after_s=float(self.desk.rng.uniform(600, 7_200)), kind="ticket", value=1.0)

    def end(self, outcome: str) -> None:
        """The session ends; a failure of its model has the last word."""
        self.speaker = self.desk.agent.name
        self.add("session.end", after_s=0.05, outcome="failed" if self.failed else outcome)

    def _start(self) -> None:
        agent = self.desk.agent
        self.user = None if agent.kind.name in {"extraction", "batch"} else self._hash()
        fields: Event = {"goal": self.goal, "user": self.user, "parent_session": self.parent}
        if agent.declares:
            schemas = {
                tool.name: {"required": list(tool.required), "properties": [*tool.required, *tool.optional]}
                for tool in self.tools
            }
            fields |= {
                "declared_tools": [tool.name for tool in self.tools],
                "tool_schemas": schemas,
                "allowed_effects": [tool.effect for tool in self.tools if tool.effect],
                "credential": self.credential,
                "budget": self.budget,
            }
        self.add("session.start", **fields)
        self.clock_ms += 20

    def _version(self) -> int:
        """Of the prompt: the newest, or one that is only tried in a share of the sessions yet."""
        version = 1
        for deployed_ms, to_version, full_ms in self.desk.agent.deployments:
            if self.clock_ms >= full_ms or (self.clock_ms >= deployed_ms and self.chance(0.15)):
                version = to_version
        return version

    def _embedding(self, refused: bool) -> list[float]:
        """Of length one: about the topic of the session, refusals about a topic of their own."""
        centroid = self.desk.agent.centroids[TOPICS if refused else self.topic]
        shared = self.desk.agent.centroids.mean(axis=0)
        vector = 1.5 * shared + centroid + self.desk.rng.normal(0, 0.08, centroid.size)
        unit: list[float] = np.round(vector / np.linalg.norm(vector), 5).tolist()
        return unit

    def _hash(self) -> str:
        return f"{int(self.desk.rng.integers(1 << 62)):016x}"
