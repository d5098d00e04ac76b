"""Is there a slice that fares worse than the rest? Two questions, asked of every slice at once.

Counts of observations and of how bad they were (failures; of scores, standard scores below the mean) are
gathered in blocks until there is enough to compare. Then, of each slice:

1. Has it got worse? Statistic: Shiryaev-Roberts sums over two sizes of change, of the likelihood ratio of the
   slice's share of the block's failures given how many there were in all: binomial, its odds those of the
   slice's own reference against the rest's, times the change (scores: the difference of means, normal). What
   moves all slices alike, such as the hour or a provider's hiccup, drops out. Source: Shin, Ramdas and
   Rinaldo (2022), see `detectors.sequential.onsets`; the conditioning is that of Fisher's exact test.
2. Was it far worse all along? Statistic: the evidence of a mixture against "at most three times the rest's
   rate, or 10 points more" (scores: a standard deviation lower), an e-process (Robbins, 1970).

Log evidence is divided by how much more blocks vary than they should. A reference learns only what is not in
question: counts since evidence began to gather wait until it is gone.

>>> import numpy as np
>>> measure, table = Measure(), np.zeros((2, WIDTH))
>>> for minute in range(200):
...     measure.count, measure.bad = 80.0, 8.0 if minute > 150 else 4.0
...     table[:, BLOCK], table[:, BLOCK_BAD] = 40.0, (6.0 if minute > 150 else 2.0, 2.0)
...     close_block(table, measure, CALLS, minute, np.zeros(2, dtype=bool))
>>> for found in findings(table, measure, CALLS, np.zeros(2, dtype=bool)):
...     print(found.row, round(found.since, 2), round(found.before, 2), found.began > 145, found.onset > 10)
0 0.15 0.05 True True
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray
from scipy.special import betaln, xlog1py, xlogy

from detectors.activity import Activity, Moments
from detectors.slice_table import Floats

Flags = NDArray[np.bool_]

WIDTH: Final = 10
BLOCK, BLOCK_BAD, KNOWN, KNOWN_BAD, SINCE, SINCE_BAD, SMALL, LARGE, RUN, BEGAN = range(WIDTH)
"""Of a slice and measure: observations and bad ones of the block, of the reference, and since evidence began
to gather; the Shiryaev-Roberts sums; log evidence since then; and the minute of that.
"""
MEMORY: Final = 40_000.0
LONGEST_RUN: Final = 1_000.0
LARGEST: Final = 1e15
LARGEST_GAIN: Final = 25.0
DISPERSION_WEIGHT: Final = 50.0
DISPERSION_MEMORY: Final = 4_000.0
LARGEST_CHI2: Final = 16.0
LEAST_RATE: Final = 0.01
UNSURE: Final = 1.5
"""Standard errors of a reference that it is taken to be too low by."""
ALLOWED_TIMES: Final = 2.5
ALLOWED_MORE: Final = 0.05
ALLOWED_LOWER: Final = 0.5
FAR_TIMES: Final = 3.0
FAR_MORE: Final = 0.1
FAR_LOWER: Final = 1.0
FAR_COUNT: Final = 40.0
TELLING: Final = 3.0
"""Less log evidence is not worth a finding."""
MIN_SCORES: Final = 50.0
MAX_EVALUATIONS: Final = 4
BAD_ENDS: Final = ("failed", "refused", "abandoned")


@dataclass(frozen=True, slots=True)
class Kind:
    """A measure. A block is closed with `block` observations and `block_bad` bad ones; a slice has a
    reference of its own once that is worth `known`. `changes` are odds ratios, or shifts in standard
    deviations; `dispersion` is what is expected of blocks.
    """

    name: str
    is_rate: bool
    block: float
    block_bad: float
    known: float
    changes: tuple[float, float]
    prior: float
    dispersion: float


CALLS: Final = Kind("calls", True, 64.0, 4.0, 10.0, (2.5, 8.0), 8.0, 2.0)
SESSIONS: Final = Kind("sessions", True, 16.0, 3.0, 10.0, (2.5, 8.0), 8.0, 1.3)
SCORES: Final = Kind("scores", False, 24.0, -1e9, 80.0, (0.5, 1.0), 20.0, 2.0)
KINDS: Final = (CALLS, SESSIONS, SCORES)


class Measure(msgspec.Struct, array_like=True):
    """All slices together: the block, the reference, the dispersion of blocks, observations ever."""

    count: float = 0.0
    bad: float = 0.0
    known: float = 0.0
    known_bad: float = 0.0
    chi2: float = 0.0
    degrees: float = 0.0
    observations: float = 0.0

    def dispersion(self, kind: Kind) -> float:
        """By how much evidence is divided."""
        chi2 = self.chi2 + DISPERSION_WEIGHT * kind.dispersion
        return max(1.0, chi2 / (self.degrees + DISPERSION_WEIGHT))

    def is_due(self, kind: Kind) -> bool:
        """Whether the block is enough."""
        return self.count >= kind.block and self.bad >= kind.block_bad


class Finding(NamedTuple):
    """A slice in question. `onset` and `far` are the log evidence of the two questions; then how bad it was
    since evidence began to gather, before, in all, and how bad the rest is.
    """

    row: int
    onset: float
    far: float
    since: float
    before: float
    overall: float
    rest: float
    observations: float
    began: int


def read(activity: Activity, norms: dict[str, list[float]]) -> list[tuple[float, float]]:
    """Observations and bad ones of an activity by measure; `norms` are the sums of evaluations."""
    # What comes soon after a failure or refusal in its session tells of the same cause; some is both.
    calls = float(activity.llm_calls + activity.tool_calls - activity.repeat_errors - activity.echo_calls)
    errors = activity.llm_errors + activity.tool_errors - activity.repeat_errors
    failed = float(errors + activity.refusals - activity.echo_refusals)
    ended = float(activity.sessions_ended - activity.outcomes.get("cancelled", 0))
    badly = float(sum(activity.outcomes.get(outcome, 0) for outcome in BAD_ENDS))
    count, lower = 0.0, 0.0
    for name, moments in activity.evaluations.items():
        norm = norms.get(name)
        if norm is not None and norm[0] >= MIN_SCORES:
            mean = norm[1] / norm[0]
            sd = max(norm[2] / norm[0] - mean * mean, 1e-4) ** 0.5
            count += moments.count
            lower += (moments.count * mean - moments.sum_micro / 1e6) / sd
    return [(max(calls, failed), failed), (ended, badly), (count, lower)]


def learn(norms: dict[str, list[float]], name: str, moments: Moments) -> None:
    """Take scores of an evaluation in, of a few evaluations."""
    if name not in norms:
        if len(norms) >= MAX_EVALUATIONS:
            return
        norms[name] = [0.0, 0.0, 0.0]
    sums = (moments.count, moments.sum_micro / 1e6, moments.sum_squares_micro / 1e6)
    joined = [one + more for one, more in zip(norms[name], sums, strict=True)]
    scale = min(1.0, MEMORY / joined[0]) if joined[0] else 1.0
    norms[name] = [each * scale for each in joined]


def close_block(table: Floats, measure: Measure, kind: Kind, minute: int, held: Floats) -> None:
    """Weigh the block of every slice, shape (slices, `WIDTH`), and let the references learn. Counts of `held`
    slices are not in the measure's, and are not learned from.
    """
    count, bad = table[:, BLOCK].copy(), table[:, BLOCK_BAD].copy()
    all_count, all_bad = measure.count + held * count, measure.bad + held * bad
    own, rest = _references(table, measure, kind, held)
    worth = table[:, KNOWN] * (max(_rate(measure), LEAST_RATE) if kind.is_rate else 1.0)
    known = worth >= kind.known
    allowed = _allowed(table, kind, own, rest, known)
    gains, _ = _gains(kind, (count, bad), (all_count, all_bad), (allowed, rest))
    _, chi2 = _gains(kind, (count, bad), (all_count, all_bad), (own, rest))
    usual = known & (held == 0) & (chi2 > 0)
    gains = np.minimum(gains / measure.dispersion(kind), LARGEST_GAIN)
    measure.chi2 += float(np.minimum(chi2[usual], LARGEST_CHI2).sum())
    measure.degrees += float(usual.sum())
    if measure.degrees > DISPERSION_MEMORY:
        measure.chi2, measure.degrees = measure.chi2 / 2, measure.degrees / 2
    for column, gain in ((SMALL, gains[0]), (LARGE, gains[1])):
        table[:, column] = np.minimum((table[:, column] + count) * np.exp(gain), LARGEST)
    table[:, RUN] = np.maximum(table[:, RUN] + gains[0], 0.0)
    table[:, SINCE] += count
    table[:, SINCE_BAD] += bad
    long = table[:, SINCE] > np.maximum(LONGEST_RUN, table[:, KNOWN])
    learned = (held == 0) & ((table[:, RUN] <= 0) | long)
    for kept, since in ((KNOWN, SINCE), (KNOWN_BAD, SINCE_BAD)):
        table[learned, kept] += table[learned, since]
        table[learned, since] = 0.0
    table[learned, RUN] = 0.0
    table[learned, BEGAN] = minute
    table[:, BLOCK] = table[:, BLOCK_BAD] = 0.0
    _close(table, measure)


def findings(table: Floats, measure: Measure, kind: Kind, held: Floats) -> list[Finding]:
    """The slices in question."""
    dispersed = measure.dispersion(kind)
    count, bad = table[:, KNOWN] + table[:, SINCE], table[:, KNOWN_BAD] + table[:, SINCE_BAD]
    overall = bad / np.maximum(count, 1.0)
    own, _ = _references(table, measure, kind, held)
    others, others_bad = _others(table, measure, kind, held)
    rest = (others_bad + 0.5 * kind.is_rate) / (others + 1.0)
    far = _far(kind, count, bad, rest) / dispersed
    far = np.where((count >= FAR_COUNT) & (others >= FAR_COUNT), far, 0.0)
    onset = np.log(np.maximum((table[:, SMALL] + table[:, LARGE]) / 2.0, 1.0))
    since = table[:, SINCE_BAD] / np.maximum(table[:, SINCE], 1.0)
    chosen = np.flatnonzero((far >= TELLING) | ((onset >= TELLING) & (table[:, SINCE] > 0)))
    return [
        Finding(
            int(row), float(onset[row]), float(far[row]), float(since[row]), float(own[row]),
            float(overall[row]), float(rest[row]), float(count[row]), int(table[row, BEGAN]),
        )
        for row in chosen
    ]  # fmt: skip


def _close(table: Floats, measure: Measure) -> None:
    measure.known += measure.count
    measure.known_bad += measure.bad
    measure.count = measure.bad = 0.0
    if measure.known > MEMORY:
        measure.known, measure.known_bad = measure.known / 2, measure.known_bad / 2
        table[:, KNOWN : KNOWN_BAD + 1] /= 2.0


def _rate(measure: Measure) -> float:
    return (measure.known_bad + 0.5) / (measure.known + 1.0)


def _others(table: Floats, measure: Measure, kind: Kind, held: Floats) -> tuple[Floats, Floats]:
    """What is known of the rest of each slice; nothing of a held one is in the measure's."""
    free = held == 0
    others = measure.known - (table[:, KNOWN] + table[:, SINCE]) * free
    bad = measure.known_bad - (table[:, KNOWN_BAD] + table[:, SINCE_BAD]) * free
    return np.maximum(others, 0.0), np.maximum(bad, 0.0) if kind.is_rate else bad


def _references(table: Floats, measure: Measure, kind: Kind, held: Floats) -> tuple[Floats, Floats]:
    """How bad each slice and its rest are, drawn towards how bad all are."""
    known, bad = table[:, KNOWN], table[:, KNOWN_BAD]
    others, others_bad = _others(table, measure, kind, held)
    if not kind.is_rate:
        return bad / (known + kind.prior), others_bad / (others + kind.prior)
    weight = kind.prior / max(_rate(measure), LEAST_RATE)
    return (bad + kind.prior) / (known + weight), (others_bad + kind.prior) / (others + weight)


def _allowed(table: Floats, kind: Kind, own: Floats, rest: Floats, known: Flags) -> Floats:
    """How bad a slice may well be: its reference, as much higher as that may be off; slices of which little
    is known may be rather worse than the rest, for slices differ.
    """
    if kind.is_rate:
        sure = own * np.exp(UNSURE / np.sqrt(table[:, KNOWN_BAD] + kind.prior))
        new = np.maximum(sure, np.maximum(ALLOWED_TIMES * rest, rest + ALLOWED_MORE))
    else:
        sure = own + UNSURE / np.sqrt(table[:, KNOWN] + kind.prior)
        new = np.maximum(sure, rest + ALLOWED_LOWER)
    return np.where(known, sure, new)


def _gains(
    kind: Kind, mine: tuple[Floats, Floats], both: tuple[Floats, Floats], references: tuple[Floats, Floats]
) -> tuple[Floats, Floats]:
    """Log likelihood ratios of the block, shape (changes, slices), and its squared standard deviations from
    what the references let expect, 0 where nothing can be said.
    """
    (count, bad), (all_count, all_bad), (own, rest) = mine, both, references
    others = np.maximum(all_count - count, 0.0)
    changes = np.array(kind.changes)[:, None]
    if kind.is_rate:
        share = count * own / np.maximum(count * own + others * rest, 1e-12)
        gains = bad * np.log(changes) - all_bad * np.log1p((changes - 1.0) * share)
        spread = all_bad * share * (1.0 - share)
        chi2 = np.where(spread > 0.05, (bad - all_bad * share) ** 2 / np.maximum(spread, 0.05), 0.0)
        return np.where((count > 0) & (others > 0), gains, 0.0), chi2
    weight = count * others / np.maximum(all_count, 1.0)
    apart = bad / np.maximum(count, 1.0) - (all_bad - bad) / np.maximum(others, 1.0) - (own - rest)
    return weight * (changes * apart - changes**2 / 2.0), weight * apart**2


def _far(kind: Kind, count: Floats, bad: Floats, rest: Floats) -> Floats:
    """Log evidence against being at most so much worse than the rest."""
    overall = bad / np.maximum(count, 1.0)
    if kind.is_rate:
        most = np.minimum(np.maximum(FAR_TIMES * rest, rest + FAR_MORE), 0.999)
        fine = np.maximum(count - bad, 0.0)
        mixture = betaln(0.5 + bad, 0.5 + fine) - betaln(0.5, 0.5)
        evidence = mixture - xlogy(bad, most) - xlog1py(fine, -most)
        return np.where(overall > most, evidence, 0.0)
    apart = overall - rest - FAR_LOWER
    wide = 1.0 + count / 4.0
    evidence = (count * apart) ** 2 / 8.0 / wide - 0.5 * np.log(wide)
    return np.where(apart > 0, evidence, 0.0)
