"""session_outlier: the odd session is found and explained, the others are left alone; trees are river's."""

from __future__ import annotations

from typing import Any

import msgspec
import numpy as np
import pytest
from river.anomaly import HalfSpaceTrees

from detectors.behaviour.session_outlier import SessionOutlier
from detectors.half_spaces import FEATURES, HEIGHT, SEED, TREES, WINDOW, Masses, learn, score
from detectors.testing import run_sessions


def usual(seed: int, count: int) -> list[dict[str, Any]]:
    """Sessions of a few steps, tokens and cents to match, now and then an error."""
    rng = np.random.default_rng(seed)
    made = []
    for _ in range(count):
        steps = int(rng.integers(3, 9))
        tokens = int(900 * steps * rng.lognormal(0, 0.4))
        made.append(
            {
                "steps": steps,
                "llm_calls": steps,
                "tokens": tokens,
                "cost_usd_micro": 6 * tokens,
                "errors": int(rng.random() < 0.02),
                "clarifications": int(rng.random() < 0.1),
            }
        )
    return made


def test_scores_are_those_of_river() -> None:
    rng = np.random.default_rng(1)
    theirs = HalfSpaceTrees(n_trees=TREES, height=HEIGHT, window_size=WINDOW, seed=SEED)
    mine = Masses()
    for observation in rng.beta(3, 3, (3 * WINDOW, FEATURES)):
        named = dict(enumerate(observation.tolist()))
        assert score(mine, observation) == pytest.approx(theirs.score_one(named))
        theirs.learn_one(named)
        learn(mine, observation)


@pytest.mark.parametrize(
    ("odd", "told"),
    [
        ({"tokens": 3_000_000, "cost_usd_micro": 18_000_000}, "tokens"),
        ({"errors": 60}, "60 errors (usually 0)"),
        ({"clarifications": 80}, "80 clarifications"),
        ({"steps": 900, "llm_calls": 900}, "900 steps"),
    ],
)
def test_an_odd_session_is_found_once_and_explained(odd: dict[str, Any], told: str) -> None:
    sessions = usual(2, 700)
    sessions[650] = {**sessions[650], **odd}
    [found] = run_sessions(SessionOutlier(), sessions)
    assert found.severity == "warning"
    assert "s650" in found.summary
    assert told in found.summary


def test_ordinary_sessions_are_left_alone_and_the_first_ones_are_not_judged() -> None:
    assert [one for seed in range(4) for one in run_sessions(SessionOutlier(), usual(seed, 1_500))] == []
    early = usual(5, 300)
    early[200] = {**early[200], "errors": 90}
    assert run_sessions(SessionOutlier(), early) == []


def test_sessions_without_a_call_say_nothing() -> None:
    sessions = usual(6, 600)
    sessions[590] = {"outcome": "abandoned"}
    assert run_sessions(SessionOutlier(), sessions) == []


def test_a_restart_anywhere_changes_nothing_and_the_state_is_small() -> None:
    sessions = usual(7, 600)
    sessions[560] = {**sessions[560], "errors": 50}
    expected = [one.detection_id for one in run_sessions(SessionOutlier(), sessions)]
    assert len(expected) == 1
    for cut in (1, 130, 400, 560):
        found = run_sessions(SessionOutlier(), sessions, restart_at=cut)
        assert [one.detection_id for one in found] == expected


def test_the_masses_take_two_bytes_a_node() -> None:
    rng, masses = np.random.default_rng(8), Masses()
    for observation in rng.random((WINDOW + 100, FEATURES)):
        learn(masses, observation)
    assert len(msgspec.msgpack.encode(masses)) <= 2 * TREES * 2 ** (HEIGHT + 1) + 16
