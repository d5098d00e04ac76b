"""Every drill, played through the detectors without a bus: found where the requirement says, not before."""

from __future__ import annotations

from dataclasses import replace

import pytest

from detectors.control import Held
from detectors.offline import Engine
from drills.catalogue import BY_NAME, DRILLS
from drills.done import Done
from drills.fleet import NAMES, session
from drills.offline import event_of, play
from drills.score import Seen, found_all, score
from drills.script import Act, Drill, Verdict
from schemas.base import epoch_ms
from schemas.event import AGENT_EVENT

START_MS = 1_700_000_000_000.0
MOST_ACTS = 9_000


def _run(drill: Drill, seed: int) -> tuple[list[Done], list[Seen]]:
    """Halts are ordered and acknowledged at once, and no gate enforces them."""
    engine = Engine(window_ms=1_000, lateness_ms=2_000)
    done: list[Done] = []
    seen: list[Seen] = []
    for act, fields in play(drill, seed=seed, run="t", start_ms=START_MS, most=MOST_ACTS):
        event = AGENT_EVENT.validate_python(fields)
        at_ms = float(epoch_ms(event.time))
        done.append(Done(act, event.event_id, at_ms, at_ms))
        for found in engine.process(event):
            if found.severity != "info":
                seen.append(Seen(found.detector, found.agent, epoch_ms(found.time), at_ms, found.summary))
            if found.suggested is not None and found.suggested.mode == "halt":
                scope, command = (found.tenant, found.agent, found.session), found.detection_id
                engine.halts.put(scope, Held(command, at_ms, float("inf")))
                engine.halts.applied(command, found.tenant, found.agent, at_ms)
        if found_all(drill, seen):
            break
    return done, seen


@pytest.mark.parametrize("drill", DRILLS, ids=lambda drill: drill.name)
def test_found_within_the_stated_distance(drill: Drill) -> None:
    done, seen = _run(drill, seed=3)
    result = score(drill, done, seen, ordered_ms=None, stopped_ms=0.0)
    assert result.passed, result.why


def test_a_script_ends_when_every_act_is_denied() -> None:
    import random

    for drill in DRILLS:
        script = drill.make(random.Random(1), "t")
        acts = 0
        try:
            act = next(script)
            while True:
                acts += 1
                act = script.send(Verdict(allowed=not act.faulty))
        except StopIteration:
            assert acts < MOST_ACTS, drill.name


def test_the_healthy_fleet_is_healthy() -> None:
    import random

    engine = Engine(window_ms=1_000, lateness_ms=2_000)
    now_ms = START_MS
    for number in range(400):
        agent = NAMES[number % len(NAMES)]
        script = session(random.Random(number), agent, f"s{number}")
        act: Act | None = next(script)
        while act is not None:
            now_ms += act.pause_ms
            fields = event_of(act, tenant="t", event_id=f"e{now_ms}", time_ms=now_ms)
            assert engine.process(AGENT_EVENT.validate_python(fields)) == []
            try:
                act = script.send(Verdict(allowed=True))
            except StopIteration:
                act = None


def _drill() -> Drill:
    return Drill("d", 0, "story", ("tool_loop",), DRILLS[0].make, within_events=2, contained=True)


def _acts(*faulty: bool) -> list[Done]:
    return [
        Done(Act("a", "s", "llm.call", {"cost_usd": 0.5}, faulty=bad), f"e{at}", float(at), float(at))
        for at, bad in enumerate(faulty)
    ]


def test_score_counts_from_the_onset_to_the_trigger() -> None:
    done = _acts(False, True, True, True)
    seen = [Seen("tool_loop", "a", 2.0, 1_500.0, "found")]
    result = score(_drill(), done, seen, ordered_ms=2.5, stopped_ms=2_001.0)
    assert result.passed
    assert (result.events_to_detection, result.usd_to_detection) == (2, 1.0)
    assert (result.seconds_to_detection, result.seconds_to_containment) == (1.499, 2.0)
    assert (result.actions_after_stop, result.usd_after_stop) == (1, 0.5)


def test_each_of_the_agents_named_must_be_found() -> None:
    drill = replace(_drill(), agents=("a", "b"), within_events=None)
    done = _acts(False, True, True, True)
    one = [Seen("tool_loop", "a", 1.0, 9.0, "a")]
    assert not found_all(drill, one)
    assert score(drill, done, one, stopped_ms=1.0).why == ("not detected by tool_loop",)
    both = [*one, Seen("tool_loop", "a", 2.0, 9.0, "again"), Seen("tool_loop", "b", 3.0, 9.0, "b")]
    assert found_all(drill, both)
    assert score(drill, done, both, stopped_ms=1.0).summary == "b"


@pytest.mark.parametrize("seed", range(4))
def test_a_silent_update_of_the_model_shows_in_canaries_before_users_see_it(seed: int) -> None:
    drill = replace(BY_NAME["silent-model-update"], detectors=("canary", "refusal_rate", "output_length"))
    _, seen = _run(drill, seed)
    assert seen[0].detector == "canary"


def test_score_says_every_reason_a_drill_failed() -> None:
    done = _acts(False, True, True, True)
    late = score(_drill(), done, [Seen("tool_loop", "a", 3.0, 9.0, "")])
    assert late.why == ("detected after 3 events, wanted 2", "not contained")
    early = score(_drill(), done, [Seen("budget", "a", 0.0, 9.0, "")])
    assert early.why == ("false alarm before the onset: budget", "not detected by tool_loop")


def test_what_shows_in_the_fleet_must_be_told_once_for_it() -> None:
    drill = replace(_drill(), fleet=("provider_outage",))
    seen = [Seen("tool_loop", "a", 2.0, 1_500.0, "found")]
    assert not found_all(drill, seen)
    assert "provider_outage found 0 times for the fleet, wanted once" in score(drill, _acts(True), seen).why
    seen += [Seen("provider_outage", "*", 3.0, 1_600.0, "found")]
    assert found_all(drill, seen)
    assert score(drill, _acts(True), seen, stopped_ms=2.0).passed
    seen += [Seen("provider_outage", "b", 3.0, 1_600.0, "found")]
    assert "provider_outage found 2 times" in score(drill, _acts(True), seen).why[-1]
