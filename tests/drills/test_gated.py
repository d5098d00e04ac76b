"""What the gate by itself holds back in the drills of R 12 and R 13, and that it is found nonetheless."""

from __future__ import annotations

import random
from typing import Any, cast

from detectors.offline import Engine
from drills.offline import event_of
from drills.script import Act, Drill, Verdict
from drills.scripts import dropped_column, mass_email
from schemas.event import AGENT_EVENT
from watchkeeper_client import Gate, TrustedKeys, WantedState
from watchkeeper_client.gate import CallFields
from watchkeeper_client.spending import caps

START_MS = 1_700_000_000_000.0
TOLD = ("tool", "effect", "targets", "approval", "irreversible")


def play(drill: Drill) -> tuple[list[Act], list[Act], set[str]]:
    """Acts done, acts denied, and the detectors that found something in what agent and gate report."""
    engine, now_ms, number = Engine(), START_MS, 0
    done: list[Act] = []
    denied: list[Act] = []
    found: set[str] = set()
    gates: dict[str, Gate] = {}
    script = drill.make(random.Random(3), "t")
    try:
        act = next(script)
        while True:
            now_ms, number = now_ms + act.pause_ms, number + 1
            state = WantedState(TrustedKeys({}), enforcement_point="test")
            gate = gates.setdefault(act.agent, Gate(state, agent=act.agent, clock=lambda: START_MS))
            call = cast("CallFields", {name: act.fields[name] for name in TOLD if name in act.fields})
            decision = gate.allowed(session=act.session, **call) if act.gated else None
            fields = event_of(act, tenant="t", event_id=f"e{number}", time_ms=now_ms)
            if decision is None or decision.allowed:
                done.append(act)
                if act.type == "session.start":
                    gate.cap(act.session, caps(cast("dict[str, Any]", act.fields.get("budget") or {})))
            else:
                denied.append(act)
                attributes = {"watchkeeper.denied": decision.denied, "watchkeeper.tool": act.fields["tool"]}
                said = Act(act.agent, act.session, "heartbeat", {"attributes": attributes})
                fields = event_of(said, tenant="t", event_id=f"e{number}", time_ms=now_ms)
            found |= {one.detector for one in engine.process(AGENT_EVENT.validate_python(fields))}
            act = script.send(Verdict(allowed=decision is None or decision.allowed))
    except StopIteration:
        return done, denied, found


def test_the_column_is_not_dropped_and_the_try_is_found() -> None:
    done, denied, found = play(dropped_column.DRILL)
    assert [act.fields["effect"] for act in denied] == ["column.drop"]
    assert not [act for act in done if act.faulty]
    assert found == {"unapproved_action"}


def test_of_ten_thousand_mails_twenty_go_out_and_the_try_is_found() -> None:
    done, denied, found = play(mass_email.DRILL)
    sent = sum(
        act.fields["targets"] for act in done if act.fields.get("status") == "ok" and act.type == "tool.call"
    )
    assert sent <= 20
    assert [act.fields["targets"] for act in denied] == [10_000, 1]
    assert "fan_out" in found
