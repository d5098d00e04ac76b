"""Nine seconds: whether or not the halt comes in time, the gate lets nothing be deleted."""

from __future__ import annotations

import random
from typing import Any

from drills.script import Act, Verdict
from drills.scripts.nine_seconds import DRILL
from watchkeeper_client.gate import Gate
from watchkeeper_client.wanted import WantedState

DELETES = {"db.delete", "backup.delete"}


def play(gate: Gate) -> tuple[list[Act], list[Act]]:
    """Acts done, and acts denied, when nobody but the gate holds the agent."""
    done: list[Act] = []
    denied: list[Act] = []
    script = DRILL.make(random.Random(1), "t")
    try:
        act = next(script)
        while True:
            call: dict[str, Any] = {
                name: act.fields[name]
                for name in ("tool", "effect", "targets", "irreversible")
                if name in act.fields
            }
            allowed = not act.gated or gate.allowed(session=act.session, **call).allowed
            (done if allowed else denied).append(act)
            act = script.send(Verdict(allowed=allowed))
    except StopIteration:
        return done, denied


def test_without_any_halt_each_delete_is_tried_and_denied() -> None:
    gate = Gate(WantedState({}, enforcement_point="gate"), agent="Operator")
    done, denied = play(gate)
    assert not [act for act in done if act.fields.get("effect") in DELETES]
    assert {act.fields["effect"] for act in denied} == DELETES
    assert any(act.fields.get("effect") == "volume.list" for act in done)


def test_a_gate_that_is_told_to_allow_it_would_let_it_happen() -> None:
    done, _ = play(Gate(WantedState({}, enforcement_point="gate"), agent="Operator", irreversible="allow"))
    assert {act.fields["effect"] for act in done if act.fields.get("effect")} >= DELETES
