"""Runs detectors over the whole benchmark, some at a time; and the engine's with other parameters, to tell
how much of its score is due to their choice.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np

from bench.eval.nab import PROFILES, Floats, Outcome, Profile, Series, evaluate
from bench.eval.nab_rivals import Detector, Metric
from detectors.sequential.metric import MetricAnomaly
from detectors.sequential.tails import Tails
from detectors.sequential.views import Views

SEED = 20_261_121
HORIZONS = ("fast", "slow", "near", "far", "roughness", "base", "run", "level", "days", "weeks", "clip")
_corpus: list[Series] = []


class Run(NamedTuple):
    """What a detector said of every series, shapes (rows,), and what it took."""

    scores: list[Floats]
    microseconds: float

    def outcomes(self, corpus: Sequence[Series]) -> dict[str, Outcome]:
        """Its outcome in every profile."""
        return {name: evaluate(corpus, self.scores, profile) for name, profile in PROFILES.items()}


class Honesty(NamedTuple):
    """Scores under parameters drawn at random; and of categories by what was chosen without them."""

    drawn: Floats
    left_out: dict[str, float]


def run_all(
    corpus: list[Series], detectors: dict[str, Detector], done: Callable[[str], None]
) -> dict[str, Run]:
    """Every detector over every series, in as many processes as there are cores. `done` hears of each."""
    with ProcessPoolExecutor(os.cpu_count(), initializer=_take, initargs=(corpus,)) as pool:
        waiting = {pool.submit(_run, detector): name for name, detector in detectors.items()}
        found = {}
        for future in as_completed(waiting):
            found[waiting[future]] = future.result()
            done(waiting[future])
    return {name: found[name] for name in detectors}


def _take(corpus: list[Series]) -> None:
    _corpus[:] = corpus


def _run(detector: Detector) -> Run:
    began = time.process_time()
    scores = [detector(series) for series in _corpus]
    rows = sum(len(series.values) for series in _corpus)
    return Run(scores, (time.process_time() - began) / rows * 1e6)


def drawn(count: int, factor: float) -> Iterator[tuple[str, Detector]]:
    """The engine's detector with every horizon, weight and tail within a factor of its own, at random."""
    random = np.random.default_rng(SEED)

    def near(value: float) -> float:
        return float(value * factor ** random.uniform(-1.0, 1.0))

    for number in range(count):
        views, tails, test = Views(), Tails(), MetricAnomaly()
        yield (
            f"drawn {number}",
            Metric(
                MetricAnomaly(
                    level=test.level * factor ** (0.2 * random.uniform(-1.0, 1.0)),
                    fatigue=near(test.fatigue),
                    hold=round(near(test.hold)),
                    views=_near(views, near),
                    tails=Tails(
                        quantile=1.0 - near(1.0 - tails.quantile),
                        learning=round(near(tails.learning)),
                        prior=near(tails.prior),
                        step=near(tails.step),
                        clip=near(tails.clip),
                    ),
                )
            ),
        )


def _near(views: Views, near: Callable[[float], float]) -> Views:
    drawn: dict[str, Any] = {name: near(getattr(views, name)) for name in HORIZONS}
    return replace(views, **drawn)


def honesty(corpus: Sequence[Series], runs: Sequence[Run], profile: Profile) -> Honesty:
    """How the runs score; and every category by the run and the threshold best on all other categories."""
    outcomes = [evaluate(corpus, run.scores, profile) for run in runs]
    left_out = {}
    for category in sorted({series.category for series in corpus}):
        best: Outcome | None = None
        chosen = runs[0]
        for run in runs:
            found = _of(corpus, run, profile, category, without=True)
            if best is None or found.score > best.score:
                best, chosen = found, run
        threshold = best.threshold if best is not None else float("inf")
        own = _of(corpus, chosen, profile, category, without=False, threshold=threshold)
        left_out[category] = sum(standing.points for standing in own.standings)
    return Honesty(np.array([outcome.score for outcome in outcomes]), left_out)


def _of(
    corpus: Sequence[Series],
    run: Run,
    profile: Profile,
    category: str,
    *,
    without: bool,
    threshold: float | None = None,
) -> Outcome:
    """The outcome on a category, or on all without it."""
    kept = [
        (series, scores)
        for series, scores in zip(corpus, run.scores, strict=True)
        if (series.category == category) is not without
    ]
    return evaluate([series for series, _ in kept], [scores for _, scores in kept], profile, threshold)
