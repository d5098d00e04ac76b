"""The Numenta Anomaly Benchmark: its series, and its score to the letter.

Lavin and Ahmad, "Evaluating Real-Time Anomaly Detection Algorithms: the Numenta Anomaly Benchmark" (2015,
arXiv:1510.03336); where the paper leaves room, as the benchmark's own sweeper does it. A detector gives each
row a score; from a threshold on a row is a detection. In a window only the earliest-worth detection counts,
outside every row does. The threshold is one for the whole corpus, chosen once for each profile.
"""

from __future__ import annotations

import csv
import io
import json
import tarfile
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

PROBATION_SHARE = 0.15
PROBATION_ROWS = 750
FAR = 3.0
"""Window widths past a window, from which on a false detection costs all."""
NO_WINDOW = -1


class Profile(NamedTuple):
    """What a missed window and a false detection cost, a window found at its left edge being worth 1."""

    missed: float
    false: float


PROFILES = {"standard": Profile(1.0, 0.11), "low-FP": Profile(1.0, 0.22), "low-FN": Profile(2.0, 0.11)}


@dataclass(frozen=True)
class Series:
    """A series and its labels. Times are epoch milliseconds; windows are first and last row, both inside."""

    name: str
    times_ms: tuple[int, ...]
    values: tuple[float, ...]
    windows: tuple[tuple[int, int], ...]

    @property
    def category(self) -> str:
        """The folder that the series lies in."""
        return self.name.partition("/")[0]

    @property
    def probation(self) -> int:
        """How many rows at the beginning are for learning and not scored."""
        return min(int(PROBATION_SHARE * len(self.values)), PROBATION_ROWS)

    @cached_property
    def window_of(self) -> NDArray[np.int64]:
        """The number of the window that a row lies in, shape (rows,); `NO_WINDOW` outside."""
        found = np.full(len(self.values), NO_WINDOW)
        for number, (first, last) in enumerate(self.windows):
            found[first : last + 1] = number
        return found

    @cached_property
    def worth(self) -> Floats:
        """What a detection at a row is worth before weights, shape (rows,): up to 1 in a window, down to -1
        outside.
        """
        row = np.arange(len(self.values))
        position = np.full(len(row), FAR)
        for first, last in self.windows:
            position[last + 1 :] = (row[last + 1 :] - last) / max(last - first, 1)
        worth = np.where(position >= FAR, -1.0, sigmoid(np.minimum(position, FAR)))
        for first, last in self.windows:
            inside = row[first : last + 1]
            worth[inside] = sigmoid((inside - last - 1) / (last - first + 1)) / sigmoid(-1.0)
        return worth

    @cached_property
    def counted(self) -> int:
        """How many windows can be found: those with a row past probation."""
        return len(set(self.window_of[self.probation :].tolist()) - {NO_WINDOW})


class Standing(NamedTuple):
    """How one series fared at a threshold. `points` are over those of finding nothing."""

    name: str
    windows: int
    found: int
    false: int
    points: float
    detections: tuple[int, ...]


class Outcome(NamedTuple):
    """The score of a profile, 100 for every window at its left edge and nothing else, 0 for nothing."""

    score: float
    threshold: float
    standings: tuple[Standing, ...]


def sigmoid(position: float | Floats) -> Floats:
    """The benchmark's scaled sigmoid: 0.987 at -1 (a window's left edge), 0 at 0, nearly -1 from 1 on."""
    return np.asarray(2.0 / (1.0 + np.exp(5.0 * np.asarray(position))) - 1.0)


def read(archive: Path) -> list[Series]:
    """Every series of the benchmark's archive (`data/`, `labels/combined_windows.json`), by name.

    Raises:
        FileNotFoundError: there is no such archive.
    """
    with tarfile.open(archive) as tar:
        files = {
            member.name.removeprefix("./"): file.read().decode()
            for member in tar.getmembers()
            if member.isfile() and (file := tar.extractfile(member)) is not None
        }
    labels = json.loads(files["labels/combined_windows.json"])
    return [_series(name, files[f"data/{name}"], labels[name]) for name in sorted(labels)]


def _series(name: str, text: str, windows: Sequence[tuple[str, str]]) -> Series:
    rows = list(csv.reader(io.StringIO(text)))[1:]
    first: dict[str, int] = {}
    for number, (time, _) in enumerate(rows):
        first.setdefault(time, number)
    return Series(
        name,
        tuple(int(datetime.fromisoformat(time).replace(tzinfo=UTC).timestamp() * 1000) for time, _ in rows),
        tuple(float(value) for _, value in rows),
        tuple((first[begin.split(".")[0]], first[end.split(".")[0]]) for begin, end in windows),
    )


def evaluate(
    corpus: Sequence[Series], scores: Sequence[Floats], profile: Profile, threshold: float | None = None
) -> Outcome:
    """The score of a detector that gave each row of each series a score, shapes (rows,).

    Without a threshold the one that is best over the whole corpus is taken. A row that scores nothing above
    0 is never a detection.
    """
    if threshold is None:
        threshold = _best_threshold(corpus, scores, profile)
    standings = [
        _standing(series, given, profile, threshold) for series, given in zip(corpus, scores, strict=True)
    ]
    windows = sum(standing.windows for standing in standings)
    points = sum(standing.points for standing in standings)
    score = 100.0 * points / (windows * (1.0 + profile.missed)) if windows else 0.0
    return Outcome(score, threshold, tuple(standings))


def _standing(series: Series, given: Floats, profile: Profile, threshold: float) -> Standing:
    rows = np.nonzero(given >= threshold)[0]
    rows = rows[rows >= series.probation]
    window_of, worth = series.window_of[rows], series.worth[rows]
    found = {
        number: float(worth[window_of == number].max()) + profile.missed
        for number in set(window_of.tolist()) - {NO_WINDOW}
    }
    false = worth[window_of == NO_WINDOW]
    points = sum(found.values()) + profile.false * float(false.sum())
    return Standing(series.name, series.counted, len(found), len(false), points, tuple(rows.tolist()))


def _best_threshold(corpus: Sequence[Series], scores: Sequence[Floats], profile: Profile) -> float:
    """Every score that was given is tried, from the highest down; infinity when silence is best."""
    if not corpus:
        return float("inf")
    given, worth, window_of, windows = [], [], [], 0
    for series, of_series in zip(corpus, scores, strict=True):
        scored = np.arange(len(of_series)) >= series.probation
        rows = np.nonzero(scored & (of_series > 0))[0]
        given.append(of_series[rows])
        worth.append(series.worth[rows])
        own = series.window_of[rows]
        window_of.append(np.where(own == NO_WINDOW, NO_WINDOW, own + windows))
        windows += len(series.windows)
    all_given, all_worth, all_windows = (np.concatenate(each) for each in (given, worth, window_of))
    order = np.argsort(-all_given, kind="stable")
    gains = np.where(all_windows == NO_WINDOW, profile.false * all_worth, 0.0)
    best: dict[int, float] = {}
    for row in order[all_windows[order] != NO_WINDOW].tolist():
        window = int(all_windows[row])
        before = best.get(window, -profile.missed)
        if all_worth[row] > before:
            gains[row] = all_worth[row] - before
            best[window] = float(all_worth[row])
    thresholds = all_given[order]
    points = np.cumsum(gains[order])
    last_of_its_score = np.append(thresholds[1:] != thresholds[:-1], [True] * (len(thresholds) > 0))
    points = np.where(last_of_its_score, points, -np.inf)
    top = int(points.argmax()) if len(points) else 0
    return float(thresholds[top]) if len(points) and points[top] > 0 else float("inf")
