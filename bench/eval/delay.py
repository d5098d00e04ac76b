"""Measures the delay of every side on the same streams, at equal false-alarm run length (`delay_levels`)."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from typing import NamedTuple
from zlib import crc32

import numpy as np

from bench.eval.delay_changes import CHANGES, Change, Floats
from bench.eval.delay_levels import Optimum, Records, delay, delays, records, set_level
from bench.eval.delay_sides import OURS, SIDES, Side, cusum

OPTIMAL = "optimal CUSUM"
STRETCH = 40.0
"""Nats that a stream after a change is long; the optimal test needs some 7."""
WARM = 300
"""Observations before the change that the optimal test sees; older ones do not matter to it."""

Found = dict[tuple[int, int, int, bool], list[Records]]
"""Records by (change, side, reference, healthy)."""


@dataclass(frozen=True, slots=True)
class Plan:
    """How much is run. Twenty thousand observations are what the engine's reference remembers."""

    runs: int = 80
    null_runs: int = 80
    null_length: int = 8_000
    optimal_runs: int = 1_500
    references: tuple[int, ...] = (500, 2_000, 5_000, 20_000)
    others_reference: int = 2_000
    run_length: int = 15_000
    longest: int = 6_000
    processes: int = 2


class Task(NamedTuple):
    """Some runs of a side."""

    change: int
    side: int
    reference: int
    seeds: tuple[int, ...]
    healthy: bool
    length: int


def stream(change: Change, reference: int, seed: int, length: int, *, healthy: bool) -> Floats:
    """`reference` observations of before, then `length` of after, or of before if it is healthy. What comes
    after is the same whatever the reference.
    """
    law = change.before if healthy else change.after
    known, new = (
        np.random.default_rng([crc32(each.name.encode()), place, seed])
        for place, each in enumerate((change.before, law))
    )
    return np.concatenate([change.before.draw(known, (reference,)), law.draw(new, (length,))])


def run(task: Task) -> list[Records]:
    """The records of some runs, the first score being that of the last observation of the reference."""
    change = CHANGES[task.change]
    side = SIDES[change.kind][task.side]
    found = []
    for seed in task.seeds:
        values = stream(change, task.reference, seed, task.length, healthy=task.healthy)
        found.append(records(side.scores(change, values, task.reference - 1)))
    return found


def optimal(change: Change, plan: Plan, length: int) -> Optimum:
    """Of the test that knows both laws, on many streams, and on those that all sides see."""
    random = np.random.default_rng(1)
    healthy = change.before.draw(random, (plan.optimal_runs, plan.null_length))
    scored = [records(row) for row in cusum(change.gain(healthy))]
    level = set_level(scored, plan.null_length, plan.run_length, None).level
    shape = (plan.optimal_runs, WARM), (plan.optimal_runs, length)
    many = np.concatenate([change.before.draw(random, shape[0]), change.after.draw(random, shape[1])], axis=1)
    seen = [stream(change, WARM, seed, length, healthy=False) for seed in range(plan.runs)]
    of_many, of_seen = (
        [records(row) for row in cusum(change.gain(values))[:, WARM - 1 :]]
        for values in (many, np.array(seen))
    )
    return Optimum(delay(of_many, length, level), delays(of_seen, length, level)[0])


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
