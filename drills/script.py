"""What a drill is: a pure script of acts by agents that ask a gate first.

A script is a generator: it yields an :class:`Act` and is sent back a :class:`Verdict`. So the same script is
played live over Kafka with real gates, and offline through the detectors in a test.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal


@dataclass(frozen=True, slots=True)
class Act:
    """One thing an agent does.

    Attributes:
        agent, session: who, and in which session.
        type: the event type it is reported as.
        fields: the event's other fields (no content: hashes, lengths, shapes).
        pause_ms: event time since the act before it.
        gated: the agent asks its gate first (calls do; reports such as `session.end` do not).
        outside: a proxy before its tools asks first, whatever the agent itself does.
        faulty: part of the failure. The first faulty act is the onset that delays are counted from.
    """

    agent: str
    session: str
    type: str
    fields: Mapping[str, Any] = field(default_factory=dict)
    pause_ms: float = 50.0
    gated: bool = True
    faulty: bool = False
    outside: bool = False

    @property
    def cost_usd(self) -> float:
        """What the act costs, as far as it says so."""
        return float(self.fields.get("cost_usd") or 0.0)


@dataclass(frozen=True, slots=True)
class Verdict:
    """What the gate said to the last act: denied acts did not happen. `ladder` is the rung to answer from,
    `event_id` the id of the event the act was reported with, if it happened.
    """

    allowed: bool
    ladder: str = "full"
    event_id: str = ""


_OF_THE_ACT = ("pause_ms", "gated", "faulty", "outside")

Script = Generator[Act, Verdict, None]


@dataclass(frozen=True, slots=True)
class Drill:
    """A failure, what must find it, and how soon.

    Attributes:
        name: as in the requirements.
        requirement: its R number.
        story: what happened, in one sentence.
        detectors: any one of these must find it.
        fleet: each of these must find it as well, once for all agents and not once an agent.
        make: the script for a seeded generator and a run id (sessions must carry the run id).
        within_events: the most faulty acts up to and including the one that triggers the detection.
        within_usd: the most dollars spent on faulty acts until then.
        contained: the agents must be stopped or stepped down.
        seconds: how long a live run may take in all.
        cost_then_usd: what the failure cost when it happened, where it is known.
        agents: each of these must be found, not only one; delays count to the last of them.
        obeys: its agents hear control; False: the stop they get is a prompt.
        proof: how the log of the incident must prove the containment to have ended.
        speed: live, so many times less time passes than the script says, between acts and in their events.
    """

    name: str
    requirement: int
    story: str
    detectors: tuple[str, ...]
    make: Callable[[random.Random, str], Script]
    within_events: int | None = None
    within_usd: float | None = None
    contained: bool = False
    seconds: float = 60.0
    cost_then_usd: float | None = None
    agents: tuple[str, ...] = ()
    obeys: bool = True
    proof: Literal["verified", "escalated"] | None = None
    speed: float = 1.0
    fleet: tuple[str, ...] = ()


def llm_call(agent: str, session: str, *, refusal: bool = False, cost_usd: float = 0.01, **more: Any) -> Act:
    """A model call of ordinary size."""
    act_fields = {name: more.pop(name) for name in _OF_THE_ACT if name in more}
    fields = {
        "provider": "openai",
        "request_model": "gpt-4o",
        "input_tokens": 900,
        "output_tokens": 120,
        "cost_usd": cost_usd,
        "duration_ms": 850.0,
        "finish_reasons": ["stop"],
        "refusal": refusal,
        "status": "ok",
        **more,
    }
    return Act(agent, session, "llm.call", fields, **act_fields)


def tool_call(agent: str, session: str, tool: str, arguments: str, result: str, **more: Any) -> Act:
    """A tool call; `arguments` and `result` are hashes of what they were."""
    act_fields = {name: more.pop(name) for name in _OF_THE_ACT if name in more}
    fields = {
        "tool": tool,
        "arguments_hash": arguments,
        "result_hash": result,
        "duration_ms": 40.0,
        "status": "ok",
        **more,
    }
    return Act(agent, session, "tool.call", fields, **act_fields)
