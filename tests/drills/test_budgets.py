"""Spending drills played to their end: warned before a budget, stopped at it, and told once an agent."""

from __future__ import annotations

import random

from detectors.offline import Engine
from drills.offline import event_of, play
from drills.script import Verdict
from drills.scripts import rate_limit_storm, weekend_run
from schemas.event import AGENT_EVENT, LlmCall, SessionStart
from watchkeeper_client import Gate, TrustedKeys, WantedState
from watchkeeper_client.control import parse_budget

START_MS = 1_700_000_000_000.0


def test_the_weekend_run_is_foreseen_and_ends_at_its_budget_with_one_call_over_at_most() -> None:
    engine = Engine()
    now_ms = START_MS
    gate = Gate(
        WantedState(TrustedKeys({}), enforcement_point="test"), agent="Researcher", clock=lambda: now_ms
    )
    script = weekend_run.script(random.Random(5), "t")
    spent = last = number = 0
    found: dict[str, int] = {}
    act = next(script)
    while True:
        now_ms += act.pause_ms
        tool = act.fields.get("tool")
        if act.gated and not gate.allowed(session=act.session, tool=tool).allowed:
            break
        fields = event_of(act, tenant="t", event_id=f"e{number}", time_ms=now_ms)
        event = AGENT_EVENT.validate_python(fields)
        if isinstance(event, SessionStart):
            assert event.budget is not None
            gate.cap(act.session, parse_budget(event.budget.model_dump(exclude_none=True)))
        if isinstance(event, LlmCall):
            last = event.input_tokens + event.output_tokens
            spent += last
            gate.report(act.session, tokens=last, cost_usd=event.cost_usd or 0.0)
        for detection in engine.process(event):
            found.setdefault(detection.detector, spent)
        number += 1
        act = script.send(Verdict(allowed=True))
    assert weekend_run.TOKEN_BUDGET <= spent < weekend_run.TOKEN_BUDGET + last
    assert found["context_growth"] < 0.25 * weekend_run.TOKEN_BUDGET
    assert found["spend_forecast"] < 0.6 * weekend_run.TOKEN_BUDGET


def test_a_storm_of_refused_retries_is_told_once_an_agent() -> None:
    engine = Engine()
    events = play(rate_limit_storm.DRILL, seed=1, run="t", start_ms=START_MS)
    found = [
        detection
        for _, fields in events
        for detection in engine.process(AGENT_EVENT.validate_python(fields))
        if detection.severity == "critical"
    ]
    assert sorted((one.detector, one.agent) for one in found) == [
        ("provider_outage", "*"),
        *(("retry_storm", agent) for agent in ("Classifier", "Router", "Summarizer")),
    ]
    storms = [one.suggested for one in found if one.detector == "retry_storm"]
    assert all(suggested is not None and suggested.mode == "throttle" for suggested in storms)
