"""Measures the delay of every side on the same streams, at equal false-alarm run length.

A level is set on streams without a change: the least at which the observations seen, over the alarms raised,
come to the run length asked for. (Run lengths are near to exponential, so streams that are cut short serve.)
A delay is counted from the change; a run that was already alarming at the change is left out.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from typing import NamedTuple
from zlib import crc32

import numpy as np

from bench.eval.delay_changes import CHANGES, Change, Floats
from bench.eval.delay_sides import OURS, SIDES, Side, cusum

OPTIMAL = "optimal CUSUM"
STRETCH = 40.0
"""Nats that a stream after a change is long; the optimal test needs some 7."""

Records = list[tuple[int, float]]
Found = dict[tuple[int, int, int, bool], list[Records]]
"""Records by (change, side, reference, healthy)."""


@dataclass(frozen=True, slots=True)
class Plan:
    """How much is run."""

    runs: int = 80
    null_runs: int = 40
    null_length: int = 8_000
    optimal_null_runs: int = 600
    references: tuple[int, ...] = (500, 2_000, 5_000)
    others_reference: int = 2_000
    run_length: int = 15_000
    longest: int = 6_000
    processes: int = 2


class Level(NamedTuple):
    """A level, the run length there (None: no alarm seen), and that at the side's default."""

    level: float
    run_length: float | None
    default_run_length: float | None
    has_default: bool


class Delay(NamedTuple):
    """Mean delay in observations, its standard error, and the share of runs that ended without an alarm."""

    mean: float
    error: float
    missed: float


class Task(NamedTuple):
    """Some runs of a side."""

    change: int
    side: int
    reference: int
    seeds: tuple[int, ...]
    healthy: bool
    length: int


def records(scores: Floats) -> Records:
    """When a score exceeded all before it, and that score."""
    highest = np.maximum.accumulate(scores)
    places = np.flatnonzero(np.diff(highest, prepend=-np.inf) > 0)
    return [(int(place), float(highest[place])) for place in places]


def first_alarm(found: Records, level: float) -> int | None:
    """Observations before the first score of at least the level."""
    return next((place for place, score in found if score >= level), None)


def run_length(runs: Sequence[Records], length: int, level: float) -> float | None:
    """Observations over alarms; None without an alarm."""
    alarms = [first_alarm(found, level) for found in runs]
    seen = sum(length if place is None else place + 1 for place in alarms)
    number = sum(place is not None for place in alarms)
    return seen / number if number else None


def set_level(runs: Sequence[Records], length: int, wanted: float, default: float | None) -> Level:
    """The least level of those scored that has the run length."""
    scored = sorted({score for found in runs for _, score in found if score > 0})
    low, high = 0, len(scored)
    while low < high:
        middle = (low + high) // 2
        reached = run_length(runs, length, scored[middle])
        if reached is None or reached >= wanted:
            high = middle
        else:
            low = middle + 1
    level = scored[low] if low < len(scored) else (scored[-1] * 1.001 if scored else 1e-9)
    own = None if default is None else run_length(runs, length, default)
    return Level(level, run_length(runs, length, level), own, default is not None)


def delay(runs: Sequence[Records], length: int, level: float) -> Delay:
    """Of runs whose first score is the last before the change."""
    alarms = [first_alarm(found, level) for found in runs]
    counted = [place for place in alarms if place != 0]
    values = np.array([length if place is None else place for place in counted], dtype=float)
    missed = sum(place is None for place in counted) / max(len(counted), 1)
    return Delay(float(values.mean()), float(values.std() / np.sqrt(len(values))), missed)


def stream(change: Change, reference: int, seed: int, length: int, *, healthy: bool) -> Floats:
    """`reference` observations of before, then `length` of after, or of before if it is healthy."""
    law = change.before if healthy else change.after
    random = np.random.default_rng([crc32(law.name.encode()), reference, seed])
    return np.concatenate([change.before.draw(random, (reference,)), law.draw(random, (length,))])


def run(task: Task) -> list[Records]:
    """The records of some runs, the first score being that of the last observation of the reference."""
    change = CHANGES[task.change]
    side = SIDES[change.kind][task.side]
    found = []
    for seed in task.seeds:
        values = stream(change, task.reference, seed, task.length, healthy=task.healthy)
        found.append(records(side.scores(change, values, task.reference - 1)))
    return found


def optimal(change: Change, plan: Plan, length: int) -> Delay:
    """Of the test that knows both laws, on the same streams."""
    random = np.random.default_rng(1)
    healthy = change.before.draw(random, (plan.optimal_null_runs, plan.null_length))
    level = set_level(
        [records(row) for row in cusum(change.gain(healthy))], plan.null_length, plan.run_length, None
    )
    streams = [
        stream(change, plan.others_reference, seed, length, healthy=False) for seed in range(plan.runs)
    ]
    scores = cusum(change.gain(np.array(streams)))[:, plan.others_reference - 1 :]
    return delay([records(row) for row in scores], length, level.level)


def post_length(change: Change, plan: Plan) -> int:
    """How long a stream after the change is."""
    return int(np.clip(STRETCH / change.information(), 400, plan.longest))


def tasks(plan: Plan, numbers: Sequence[int]) -> Iterator[tuple[tuple[int, int, int, bool], Task]]:
    """All runs but the optimal test's, in pieces, by (change, side, reference, healthy). A level is set once
    for changes of one law before them, and of one direction.
    """
    done: set[object] = set()
    for number in numbers:
        change = CHANGES[number]
        length = post_length(change, plan)
        for place, side in enumerate(SIDES[change.kind]):
            for reference in plan.references if side is OURS else (plan.others_reference,):
                runs = max(plan.runs // side.thrift, 2)
                yield from _pieces(Task(number, place, reference, (), False, length), runs)
                if (key := null_key(change, side, reference)) not in done:
                    done.add(key)
                    runs = max(plan.null_runs // side.thrift, 2)
                    yield from _pieces(Task(number, place, reference, (), True, plan.null_length), runs)


def null_key(change: Change, side: Side, reference: int) -> tuple[object, ...]:
    """What the false alarms of a side depend on."""
    kind = change.kind if side is OURS else change.kind == "rate"
    return side.name, kind, change.before.name, change.rises if change.kind == "rate" else None, reference


def _pieces(task: Task, runs: int) -> Iterator[tuple[tuple[int, int, int, bool], Task]]:
    for start in range(0, runs, 8):
        seeds = tuple(range(start, min(start + 8, runs)))
        yield (task.change, task.side, task.reference, task.healthy), task._replace(seeds=seeds)


def measure(plan: Plan, numbers: Sequence[int], told: Callable[[int, int], None]) -> Found:
    """Runs everything; `told` hears how many pieces of how many are done."""
    work = list(tasks(plan, numbers))
    found: Found = {}
    with ProcessPoolExecutor(plan.processes) as pool:
        for done, ((key, _), result) in enumerate(
            zip(work, pool.map(run, [task for _, task in work]), strict=True), start=1
        ):
            found.setdefault(key, []).extend(result)
            told(done, len(work))
    return found
