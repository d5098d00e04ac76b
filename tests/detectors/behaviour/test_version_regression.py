"""version_regression: a new version against the old one, side by side or before and after."""

from __future__ import annotations

from collections.abc import Iterator

import msgspec
import numpy as np
import pytest

from detectors.activity import Activity, Scores
from detectors.behaviour.version_regression import VersionRegression, standing
from detectors.bins import log_bin
from detectors.testing import START_MS, run_windows, window
from detectors.versions import Versions
from detectors.windows import DeploymentSeen, Window

FRAME_MS = 10_000
HOUR_FRAMES = 360


def sessions(rng: np.random.Generator, count: int, completed: float) -> Activity:
    """Sessions that end, the given share of them completed."""
    done = int(rng.binomial(count, completed))
    return Activity(
        llm_calls=count,
        refusals_known=count,
        refusals=int(rng.binomial(count, 0.02)),
        outcomes={"completed": done, "failed": count - done},
        llm_duration_bins={log_bin(900): count // 2, log_bin(1_100): count - count // 2},
    )


def switch(seed: int, before: float, after: float, frames: int = 150) -> Iterator[Window]:
    """All traffic goes from v1 to v2 half way."""
    rng = np.random.default_rng(seed)
    for number in range(2 * frames):
        old = number < frames
        part = sessions(rng, 10, before if old else after)
        yield window(number, parts={f"prompt={'v1' if old else 'v2'};language=en": part})


def beside(seed: int, old: float, new: float, frames: int = 300, share: int = 3) -> Iterator[Window]:
    """A few sessions of each frame are given to v2, after 100 frames; completion swings with the time."""
    rng = np.random.default_rng(seed)
    for number in range(frames):
        # Far more fail in every other stretch of half an hour, whatever the version.
        factor = 0.7 if number // 180 % 2 else 1.0
        parts = {"prompt=v1": sessions(rng, 10, old * factor)}
        if number >= 100:
            parts["prompt=v2"] = sessions(rng, share, new * factor)
        yield window(number, parts=parts)


@pytest.mark.parametrize("seed", range(5))
def test_a_switch_to_a_worse_version_is_found_and_named(seed: int) -> None:
    found = [
        one for one in run_windows(VersionRegression(), switch(seed, 0.9, 0.7)) if one.severity != "info"
    ]
    assert found
    assert found[-1].severity == "critical"
    for one in found:
        assert one.metric == "completion_rate"
        assert "prompt v2" in one.summary
        assert "v1" in one.summary
        assert one.onset is not None
        assert one.onset.timestamp() * 1000 == START_MS + 150 * FRAME_MS
        assert one.sample_size <= 600


@pytest.mark.parametrize("seed", range(5))
def test_side_by_side_is_compared_within_the_hour(seed: int) -> None:
    def said(old: float, new: float) -> set[str]:
        return {one.severity for one in run_windows(VersionRegression(), beside(seed, old, new))}

    assert said(0.9, 0.9) <= {"info"}
    assert said(0.9, 0.6) & {"warning", "critical"}


def test_versions_that_change_nothing_are_seldom_called_worse() -> None:
    worse = sum(
        one.severity != "info"
        for seed in range(60)
        for one in run_windows(VersionRegression(), switch(seed, 0.9, 0.9, frames=60))
    )
    assert worse <= 1


def test_hours_of_the_day_are_not_a_version() -> None:
    """Nights are far worse than days; the switch comes at nightfall of the sixth day."""
    rng = np.random.default_rng(5)
    frames = []
    for hour in range(24 * 5 + 30):
        night = hour % 24 >= 12
        prompt = "v1" if hour < 24 * 5 + 12 else "v2"
        part = sessions(rng, 60, 0.8 if night else 0.95)
        frames.append(window(hour * HOUR_FRAMES, parts={f"prompt={prompt}": part}))
    assert [one for one in run_windows(VersionRegression(), frames) if one.severity != "info"] == []


@pytest.mark.parametrize(("after", "word"), [(0.9, "same"), (0.97, "better")])
def test_people_are_told_once_that_nothing_is_worse(after: float, word: str) -> None:
    found = run_windows(VersionRegression(), switch(1, 0.9, after, frames=1_500))
    assert [one.severity for one in found] == ["info"]
    assert f"does {word} compared with v1" in found[0].summary


def test_what_does_not_show_in_slices_is_compared_from_its_deployment_on() -> None:
    rng = np.random.default_rng(3)
    deployed = DeploymentSeen(START_MS + 100 * FRAME_MS, "d1", "tool", "search", "2.0", "1.9")
    frames = [
        window(
            number,
            parts={"model=m": sessions(rng, 10, 0.9 if number < 100 else 0.6)},
            deployments=[deployed] if number == 100 else [],
        )
        for number in range(200)
    ]
    found = [one for one in run_windows(VersionRegression(), frames) if one.severity != "info"]
    assert found
    assert found[0].summary.startswith("tool search 2.0 of agent does worse than 1.9")
    assert found[0].evidence.event_ids == ["d1"]


def test_an_announced_version_is_one_trial_with_what_came_along() -> None:
    rng = np.random.default_rng(4)
    deployed = DeploymentSeen(START_MS + 99 * FRAME_MS, "d2", "prompt", "answer", "v2")
    frames = [
        window(
            number,
            parts={
                f"version={1 + (number >= 100)};prompt={'v2' if number >= 100 else 'v1'}": sessions(
                    rng, 10, 0.9 if number < 100 else 0.5
                )
            },
            deployments=[deployed] if number == 99 else [],
        )
        for number in range(200)
    ]
    found = [one for one in run_windows(VersionRegression(), frames) if one.severity != "info"]
    assert {one.summary.split(" of ")[0] for one in found} == {"prompt v2 with version 2"}
    assert found[0].evidence.event_ids == ["d2"]


def test_agents_of_which_little_is_known_and_ids_that_look_like_versions_start_nothing() -> None:
    rng = np.random.default_rng(6)
    early = [window(n, parts={f"prompt=v{n // 5}": sessions(rng, 1, 0.9)}) for n in range(60)]
    assert run_windows(VersionRegression(), early) == []
    state = Versions()
    for number in range(400):
        part = sessions(rng, 10, 0.9)
        state.take(window(number, parts={f"model=r{number}": part}), part)
    assert state.trials == [] or state.trials[0].since_ms < START_MS + 20 * FRAME_MS
    assert len(state.values["model"]) <= 12


def test_calls_that_fail_before_a_model_answers_are_not_of_a_new_model() -> None:
    rng = np.random.default_rng(9)
    frames = [window(number, parts={"model=m-2024": sessions(rng, 10, 0.9)}) for number in range(100)]
    failed = Activity(llm_calls=6, llm_errors=6)
    frames += [window(number, parts={"model=m": failed}) for number in range(100, 110)]
    assert run_windows(VersionRegression(), frames) == []


def test_the_standing_follows_the_trial_and_is_well_again_after_a_rollback() -> None:
    state, rng = Versions(), np.random.default_rng(7)

    def show(number: int, prompt: str, completed: float) -> None:
        part = sessions(rng, 10, completed)
        shown = window(number, parts={f"prompt={prompt}": part})
        state.take(shown, part)

    for number in range(100):
        show(number, "v1", 0.9)
    assert standing(state, START_MS).verdict == "healthy"
    show(100, "v2", 0.9)
    assert standing(state, START_MS + 100 * FRAME_MS).verdict == "cannot tell"
    for number in range(101, 101 + 30 * HOUR_FRAMES, 30):
        show(number, "v1", 0.9)
    assert state.trials == []
    assert standing(state, START_MS + 30 * HOUR_FRAMES * FRAME_MS).verdict == "healthy"


def test_the_state_stays_small_with_everything_in_use() -> None:
    state, rng = Versions(), np.random.default_rng(8)
    for number in range(600):
        part = sessions(rng, 10, 0.9)
        for name in ("groundedness", "helpfulness", "tone", "style"):
            part.evaluations[name] = _scores()
        hour = number // 60
        prompt, model = f"v{1 + (hour > 2)}", f"m{1 + (hour > 5)}"
        shown = window(number * 6, parts={f"prompt={prompt};model={model}": part, "prompt=v1;model=m1": part})
        state.take(shown, part)
    assert len(state.trials) == 2
    assert len(msgspec.msgpack.encode(state)) <= 8 * 1024


def _scores() -> Scores:
    moments = Scores()
    moments.add(0.8)
    moments.add(0.9)
    return moments
