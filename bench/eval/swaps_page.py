"""Tables of the model swaps: what really changed, what was found of it and how soon, and what was made up."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from statistics import median
from typing import Any, Final, NamedTuple

import numpy as np
from scipy.stats import fisher_exact, ks_2samp

from bench.eval.page import Section, ratio, share
from bench.eval.swaps import Alarm, Answer, Case, Outcome

SET_UP: Final = frozenset(
    {"judge_score", "canary", "embedding_drift", "confidence_calibration", "health_score", "slo_burn"}
)
"""Detectors that need more than the calls, or are made up of such."""
OF_SESSIONS: Final = frozenset({"session_outlier"})
"""What one session alone is odd in says nothing of the model: it is counted by detector, not as finding."""
FOUND: Final = ("warning", "critical")
LEVEL: Final = 0.001
TESTS: Final = 16
RATE_EFFECT: Final = 0.02
SHAPE_EFFECT: Final = 0.1


class Change(NamedTuple):
    """A quantity over all answers of both models, the effect, and whether it counts as a real change."""

    quantity: str
    old: float
    new: float
    effect: float
    chance: str
    real: bool


def changes(case: Case) -> list[Change]:
    """Tests by someone who sees which model answered. Rates: Fisher's exact test and at least two points;
    values: Kolmogorov-Smirnov and a distance of at least 0.1; each at 0.001 shared out over 16 tests.
    """
    found = []
    values: dict[str, Callable[[Answer], float]] = {
        "output tokens": lambda answer: answer.output_tokens,
        "latency, s": lambda answer: answer.duration_ms / 1_000,
    }
    for name, value in values.items():
        old, new = [value(each) for each in case.old], [value(each) for each in case.new]
        distance, chance = (float(each) for each in ks_2samp(old, new))
        real = chance < LEVEL / TESTS and distance >= SHAPE_EFFECT
        found.append(Change(name, median(old), median(new), distance, f"{chance:.1e}", real))
    rates: dict[str, Callable[[Answer], bool | None]] = {
        "refused": lambda answer: answer.refusal,
        "correct": lambda answer: answer.correct,
    }
    for name, hit in rates.items():
        counts = [Counter(hit(each) for each in answers) for answers in (case.old, case.new)]
        if any(count[None] for count in counts):
            continue
        before, after = (count[True] / count.total() for count in counts)
        chance = float(fisher_exact([[count[True], count[False]] for count in counts])[1])
        real = chance < LEVEL / TESTS and abs(after - before) >= RATE_EFFECT
        found.append(Change(name, before, after, after - before, f"{chance:.1e}", real))
    return found


def section_of_changes(cases: Iterable[Case]) -> Section:
    """What really changed."""
    page = Section("What really changed in the swaps (LLMDrift)")
    page.say(
        "By tests on all recorded answers, by someone who sees which model gave them: Kolmogorov-Smirnov for "
        "values (effect: the distance; real from 0.1 on), Fisher's exact test for rates (effect: the "
        "difference; real from two points on), each with a chance under 0.001 shared out over all tests. "
        "Medians and shares, old and new."
    )
    rows: list[tuple[object, ...]] = []
    for case in cases:
        tested = changes(case)
        rows += [(case.name, *each) for each in tested]
        page.figures[case.name] = [each.quantity for each in tested if each.real]
    page.table(("swap", "quantity", "old", "new", "effect", "chance", "real"), rows)
    return page


def section_of_swaps(outcomes: list[Outcome], changed: set[str]) -> Section:
    """Whether each swap was found by anything, with and without what has to be set up."""
    page = Section("Model swaps, the model hidden")
    rows = []
    found: dict[str, dict[str, float]] = {"calls alone": {}, "with judge, canaries, embeddings": {}}
    for case in _cases(outcomes):
        swaps, controls = _of(outcomes, case, "swap"), _of(outcomes, case, "control")
        for told, detectors in zip(found, (_from_calls, _any), strict=True):
            row, figures = _found(swaps, controls, detectors)
            rows.append((case, told, *row))
            page.figures[f"{case}, {told}"] = figures
            found[told][case] = figures["found"]
    page.table(
        ("swap", "seen", "runs", "found", "critical", "first by", "median delay, calls", "longest",
         "median delay, output tokens", "controls with a warning", "controls with a critical"),
        rows,
    )  # fmt: skip
    missed = {
        told: sorted(case for case in changed if shares.get(case, 0.0) < 1.0)
        for told, shares in found.items()
    }
    page.figures["met"] = {told: not cases for told, cases in missed.items()}
    page.say(
        "Found is a warning or worse after the swap, by a detector of behaviour (`session_outlier` speaks of "
        "single sessions); delays are counted to the call after which the engine said it. The bar is that "
        "every swap with a real change is found, in every run.",
        *(
            f"{told.capitalize()}: " + (f"**not met for {'; '.join(cases)}**." if cases else "met.")
            for told, cases in missed.items()
        ),
    )
    return page


def section_of_detectors(outcomes: list[Outcome]) -> Section:
    """The same by detector."""
    page = Section("Model swaps by detector")
    rows = []
    for case in _cases(outcomes):
        swaps, controls = _of(outcomes, case, "swap"), _of(outcomes, case, "control")
        for name in sorted({alarm.detector for run in (*swaps, *controls) for alarm in run.alarms}):
            (runs, found, critical, _, *delays, warned, paged), figures = _found(swaps, controls, name.__eq__)
            early = sum(
                any(a.detector == name and a.severity in FOUND and a.calls <= run.onset for a in run.alarms)
                for run in swaps
            )
            rows.append((case, f"`{name}`", found, critical, *delays, share(early, runs), warned, paged))
            page.figures[f"{case}, {name}"] = {**figures, "before_the_swap": early}
    page.table(
        ("swap", "detector", "found", "critical", "median delay, calls", "longest",
         "median delay, output tokens", "runs with a false one before", "controls with a warning",
         "controls with a critical"),
        rows,
    )  # fmt: skip
    return page


def section_of_recorded(outcomes: list[Outcome]) -> Section:
    """What is said of the old model alone, in the order in which it was asked."""
    page = Section("The old model as it was recorded")
    page.say(
        "One run each, questions in the recorded order, with the tides that shuffling takes away: latency is "
        "that of the hour, and questions of a kind, some of which are refused more, come together."
    )
    rows: list[tuple[object, ...]] = []
    for run in outcomes:
        if run.variant == "recorded":
            for alarm in run.alarms or [Alarm("none", "–", 0, "–")]:
                rows.append((run.case, f"`{alarm.detector}`", alarm.severity, alarm.calls, alarm.summary))
            page.figures[run.case] = [f"{alarm.detector}/{alarm.severity}" for alarm in run.alarms]
    page.table(("case", "detector", "severity", "after calls", "said"), rows)
    return page


def _found(
    swaps: list[Outcome], controls: list[Outcome], detectors: Callable[[str], bool]
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    firsts = [(run, run.first(detectors, FOUND)) for run in swaps]
    found = [(run, alarm) for run, alarm in firsts if alarm is not None]
    critical = sum(run.first(detectors, ("critical",)) is not None for run in swaps)
    delays = [run.delay(alarm) for run, alarm in found]
    tokens = [run.tokens(alarm) for run, alarm in found]
    by = Counter(alarm.detector for _, alarm in found).most_common(2)
    false = [
        sum(
            any(detectors(alarm.detector) and alarm.severity in severities for alarm in run.alarms)
            for run in controls
        )
        for severities in (FOUND, ("critical",))
    ]
    row = (
        len(swaps),
        share(len(found), len(swaps)),
        share(critical, len(swaps)),
        ", ".join(f"`{name}` {count}" for name, count in by) or None,
        int(median(delays)) if delays else None,
        max(delays, default=None),
        int(median(tokens)) if tokens else None,
        *(share(each, len(controls)) for each in false),
    )
    figures = {
        "runs": len(swaps),
        "found": ratio(len(found), len(swaps)),
        "critical": ratio(critical, len(swaps)),
        "median_delay_calls": float(np.median(delays)) if delays else None,
        "median_delay_output_tokens": float(np.median(tokens)) if tokens else None,
        "controls": len(controls),
        "controls_with_a_warning": false[0],
        "controls_with_a_critical": false[1],
    }
    return row, figures


def _from_calls(detector: str) -> bool:
    return detector not in SET_UP | OF_SESSIONS


def _any(detector: str) -> bool:
    return detector not in OF_SESSIONS


def _cases(outcomes: list[Outcome]) -> list[str]:
    return list(dict.fromkeys(run.case for run in outcomes))


def _of(outcomes: list[Outcome], case: str, variant: str) -> list[Outcome]:
    return [run for run in outcomes if run.case == case and run.variant == variant]
