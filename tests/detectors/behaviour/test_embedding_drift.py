"""A centroid that moves is found at any sample size; topics that come and go, and another model, are not."""

from __future__ import annotations

import msgspec
import numpy as np
import pytest

from detectors.base import WindowContext
from detectors.behaviour.embedding_drift import EmbeddingDrift
from detectors.embeddings import EmbeddingSums
from detectors.testing import run_windows, window
from detectors.windows import Window

DIMENSIONS = 16
QUARTERS = 90
"""Windows of ten seconds in a quarter of an hour."""
Floats = np.ndarray[tuple[int, ...], np.dtype[np.float64]]


class Speaker:
    """Says things about five topics, some of which are liked more at times."""

    def __init__(self, seed: int) -> None:
        self.random = np.random.default_rng(seed)
        self.shared = self.random.normal(0, 0.3, DIMENSIONS)
        self.topics = self.random.normal(0, 0.3, (5, DIMENSIONS))
        self.style = self.random.choice((-0.15, 0.15), DIMENSIONS)

    def said(self, number: int, count: int = 8, *, drift: float = 0.0, label: str = "m/16") -> Window:
        sums = EmbeddingSums()
        weights = self.random.dirichlet([2.0] * 5)
        for topic in self.random.choice(5, count, p=weights):
            noise = self.random.normal(0, 0.2, DIMENSIONS)
            vector = self.shared + self.topics[topic] + noise + drift * self.style
            sums.add(vector.tolist())
        return window(QUARTERS * number, embeddings={label: sums})


@pytest.mark.parametrize("seed", range(5))
def test_another_tone_is_found_within_400_answers(seed: int) -> None:
    speaker = Speaker(seed)
    made = [speaker.said(at) for at in range(200)]
    made += [speaker.said(at, drift=1.0) for at in range(200, 250)]
    found = run_windows(EmbeddingDrift(), made)
    assert found
    drift = found[0]
    assert drift.metric == "cosine"
    assert drift.observed is not None
    assert drift.expected is not None
    assert drift.observed < drift.expected <= 1.0


@pytest.mark.parametrize("count", [2, 8, 30])
@pytest.mark.parametrize("seed", range(2))
def test_topics_that_come_and_go_are_no_drift(seed: int, count: int) -> None:
    speaker = Speaker(seed)
    assert run_windows(EmbeddingDrift(), [speaker.said(at, count) for at in range(250)]) == []


def test_an_hour_about_one_topic_is_no_drift() -> None:
    speaker = Speaker(3)
    made = [speaker.said(at) for at in range(200)]
    made += [speaker.said(at, 200, drift=2.0) for at in range(200, 204)]
    made += [speaker.said(at) for at in range(204, 300)]
    assert run_windows(EmbeddingDrift(), made) == []


def test_another_model_starts_anew() -> None:
    speaker = Speaker(1)
    made = [speaker.said(at) for at in range(200)]
    made += [speaker.said(at, drift=3.0, label="other/16") for at in range(200, 300)]
    assert run_windows(EmbeddingDrift(), made) == []


def test_a_drift_is_told_once_and_its_state_stays_small() -> None:
    speaker = Speaker(2)
    detector, state = EmbeddingDrift(), EmbeddingDrift.State()
    context = WindowContext()
    for number in range(300):
        context.activity, context.standings = speaker.said(number, 24, label=f"m{number % 2}/16").total(), {}
        assert list(detector.update(state, window(QUARTERS * number), context)) == []
        assert len(msgspec.msgpack.encode(state)) < 12_000
    assert context.standings["embedding_drift"].verdict == "healthy"
    made = [speaker.said(at) for at in range(200)] + [speaker.said(at, drift=2.5) for at in range(200, 500)]
    found = run_windows(detector, made)
    assert [one.severity for one in found] in (["critical"], ["warning", "critical"])
    made += [speaker.said(at) for at in range(500, 700)]
    assert len(run_windows(detector, made + [speaker.said(at, drift=2.5) for at in range(700, 760)])) > len(
        found
    )
