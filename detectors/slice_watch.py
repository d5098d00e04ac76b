"""An agent's slices over time: what is counted of each, which one is worse, and what it explains.

A slice that is worse is set apart: what belongs to it is counted for nothing else until it has recovered, so
that one bad language is not told again as a bad segment. Of several in question that which most evidence
speaks for is named, a pair only where it has more by `PAIR_COST` than any single: a pair in a bad single has
part of its evidence, and a single around a bad pair has it diluted.

Levels are those of `detectors.false_alarms`, divided among all slices followed, measures, and both questions.
"""

from __future__ import annotations

from math import log
from typing import Final, Literal, NamedTuple

import msgspec
import numpy as np

from detectors.activity import Activity
from detectors.false_alarms import ALLOWED, SHARES, level
from detectors.slice_search import (
    BEGAN,
    BLOCK,
    BLOCK_BAD,
    KINDS,
    KNOWN,
    KNOWN_BAD,
    LARGE,
    RUN,
    SINCE,
    SINCE_BAD,
    SMALL,
    WIDTH,
    Finding,
    Kind,
    Measure,
    close_block,
    findings,
    learn,
    read,
)
from detectors.slice_table import Floats, Slices, is_within
from detectors.slices import dimensions
from detectors.windows import Window

NAME: Final = "slice_regression"
MINUTE_MS: Final = 60_000
PAIR_COST: Final = 2.0
MAX_ALARMS: Final = 4
REST_COUNT: Final = 12.0
RECOVERY: Final = 100.0
RECOVERY_BAD: Final = 16.0
LEAST_SHARE: Final = 0.01
WORSE_TIMES: Final = 2.0
WORSE_BY: Final = 0.03
LOWER_BY: Final = 0.5
SEVERE_TIMES: Final = 3.0
SEVERE_BY: Final = 0.15
SEVERE_LOWER_BY: Final = 1.0

Severity = Literal["warning", "critical"]


class Alarm(msgspec.Struct):
    """A slice that is worse: in which measure, since which minute, how bad it ought to be and is, at which
    minute that was found; what came of it since the last look at its recovery.
    """

    slice_name: str
    kind: int
    began: int
    before: float
    after: float
    severity: Severity
    all_along: bool
    raised: int
    count: float = 0.0
    bad: float = 0.0


class Told(NamedTuple):
    """An alarm to tell of, the finding, and the level its evidence has passed (a logarithm, as it is)."""

    alarm: Alarm
    kind: Kind
    finding: Finding
    evidence: float
    level: float
    searched: int


class SliceWatch(msgspec.Struct):
    """All of an agent's slices; `norms` are sums of its evaluations."""

    first_ms: int = -1
    slices: Slices = msgspec.field(default_factory=Slices)
    measures: list[Measure] = msgspec.field(default_factory=lambda: [Measure() for _ in KINDS])
    norms: dict[str, list[float]] = {}
    alarms: list[Alarm] = []

    def take(self, window: Window, whole: Activity) -> list[Told]:
        """Take a frame in; what is to be told of it."""
        if self.first_ms < 0:
            self.first_ms = window.start_ms
        counted = [(key, read(part, self.norms)) for key, part in window.parts.items()]
        for name, moments in whole.evaluations.items():
            learn(self.norms, name, moments)
        placed = [(self._place(key, sums), sums) for key, sums in counted if any(each[0] for each in sums)]
        if not self.slices.rows:
            return []
        # Of a slice that has been given up nothing is left.
        taken = self.slices.settle()
        table = self.slices.load(len(KINDS) * WIDTH).reshape(-1, len(KINDS), WIDTH)
        for rows, sums in placed:
            if rows:
                table[rows, :, BLOCK : BLOCK_BAD + 1] += np.array(sums)
        table[taken] = 0.0
        told: list[Told] = []
        for number, (measure, kind) in enumerate(zip(self.measures, KINDS, strict=True)):
            if measure.is_due(kind):
                told += self._close(table, number, window.start_ms)
        self.slices.store(table)
        return told

    def _place(self, key: str, sums: list[tuple[float, float]]) -> list[int]:
        """The rows to count a combination in."""
        held = [alarm.slice_name for alarm in self.alarms if is_within(key, alarm.slice_name)]
        if held:
            return [self.slices.rows[name] for name in held]
        for measure, (count, bad) in zip(self.measures, sums, strict=True):
            measure.count += count
            measure.bad += bad
            measure.observations += count
        return self.slices.rows_of(key, sum(count for count, _ in sums))

    def _close(self, table: Floats, number: int, at_ms: int) -> list[Told]:
        measure, kind, mine = self.measures[number], KINDS[number], table[:, number]
        for alarm in [each for each in self.alarms if each.kind == number]:
            self._await_recovery(table, alarm)
        held = np.zeros(len(table), dtype=bool)
        held[self.slices.held] = True
        close_block(mine, measure, kind, (at_ms - self.first_ms) // MINUTE_MS, held)
        searched = len(self.slices.rows)
        told: list[Told] = []
        best: Told | None = None
        found = findings(mine, measure, kind, held)
        for finding in found:
            new = self._weigh(finding, kind, measure, searched, at_ms)
            if new is None:
                continue
            known = next((one for one in self.alarms if one.slice_name == new.alarm.slice_name), None)
            if known is None:
                if best is None or _excess(new) > _excess(best):
                    best = new
            elif known.kind == number and known.severity == "warning" and new.alarm.severity == "critical":
                known.severity = "critical"
                told.append(new._replace(alarm=known))
        if best is not None and len(self.alarms) < MAX_ALARMS:
            best = self._narrowed(best, found, mine)
            told.append(best)
            self._hold(table, best)
        return told

    def _weigh(
        self, finding: Finding, kind: Kind, measure: Measure, searched: int, at_ms: int
    ) -> Told | None:
        """A finding as an alarm, if its evidence is worth one."""
        name = next(name for name, row in self.slices.rows.items() if row == finding.row)
        among = 2 * searched * sum(each.observations > 0 for each in self.measures)
        share = min(max(finding.observations / max(measure.known, 1.0), LEAST_SHARE), 1.0)
        observations, span_ms = measure.observations * share, at_ms - self.first_ms

        def passes(severity: Severity) -> tuple[bool, float, float, bool]:
            onset = log(level(NAME, severity, observations=observations, span_ms=span_ms, among=among))
            far = log(among / (ALLOWED[severity] * SHARES[NAME]))
            onset_excess = finding.onset - onset if _is_worse(kind, finding) else -onset
            all_along = finding.far - far > onset_excess
            evidence, wanted = (finding.far, far) if all_along else (finding.onset, onset)
            return max(finding.far - far, onset_excess) >= 0, evidence, wanted, all_along

        found, evidence, wanted, all_along = passes("warning")
        if not found:
            return None
        severity: Severity = "warning"
        critical = passes("critical")
        before, after = (finding.rest, finding.overall) if all_along else (finding.before, finding.since)
        if critical[0] and _is_severe(kind, before, after):
            severity, evidence, wanted = "critical", critical[1], critical[2]
        began = 0 if all_along else finding.began
        raised = span_ms // MINUTE_MS
        alarm = Alarm(name, KINDS.index(kind), began, before, after, severity, all_along, raised)
        return Told(alarm, kind, finding, evidence, wanted, searched)

    def _narrowed(self, told: Told, found: list[Finding], table: Floats) -> Told:
        """The pair within a single that explains it: without the pair, the rest of the single is well."""
        alarm = told.alarm
        names = {row: name for name, row in self.slices.rows.items()}
        columns = [SINCE, SINCE_BAD]
        if alarm.all_along or ";" in alarm.slice_name:
            return told
        for finding in sorted(found, key=lambda one: -one.onset):
            name = names[finding.row]
            if ";" not in name or not is_within(name, alarm.slice_name) or not _is_worse(told.kind, finding):
                continue
            count, bad = (
                float(each) for each in table[told.finding.row, columns] - table[finding.row, columns]
            )
            rest = told.finding._replace(since=bad / max(count, 1.0))
            if count >= REST_COUNT and not _is_worse(told.kind, rest):
                alarm.slice_name, alarm.began = name, finding.began
                alarm.before, alarm.after = finding.before, finding.since
                return told._replace(finding=finding)
        return told

    def _hold(self, table: Floats, told: Told) -> None:
        """Set a slice apart; what others have of it does not speak against them."""
        alarm, row = told.alarm, told.finding.row
        self.alarms.append(alarm)
        self.slices.held.append(row)
        for other, name in [(other, name) for name, other in self.slices.rows.items() if other != row]:
            table[other][:, [SINCE, SINCE_BAD, SMALL, LARGE, RUN]] = 0.0
            if alarm.all_along and _overlap(alarm.slice_name, name):
                table[other][:, [KNOWN, KNOWN_BAD]] = 0.0
        for number, measure in enumerate(self.measures):
            measure.known = max(0.0, measure.known - float(table[row, number, KNOWN]))
            measure.known_bad -= float(table[row, number, KNOWN_BAD])
            if KINDS[number].is_rate:
                measure.known_bad = max(0.0, measure.known_bad)

    def _await_recovery(self, table: Floats, alarm: Alarm) -> None:
        row = self.slices.rows[alarm.slice_name]
        alarm.count += float(table[row, alarm.kind, BLOCK])
        alarm.bad += float(table[row, alarm.kind, BLOCK_BAD])
        halfway = (alarm.before + alarm.after) / 2
        rarer = halfway if KINDS[alarm.kind].is_rate else 1.0
        if alarm.count < max(RECOVERY, RECOVERY_BAD / rarer):
            return
        if alarm.bad / alarm.count < halfway:
            self.alarms.remove(alarm)
            self.slices.held.remove(row)
            table[row] = 0.0
            table[row, :, BEGAN] = 0.0
        alarm.count = alarm.bad = 0.0


def _is_worse(kind: Kind, finding: Finding) -> bool:
    """Whether what has been since is enough worse to be told."""
    apart = finding.since - finding.before
    if not kind.is_rate:
        return apart >= LOWER_BY
    return apart >= WORSE_BY and finding.since >= WORSE_TIMES * finding.before


def _is_severe(kind: Kind, before: float, after: float) -> bool:
    if not kind.is_rate:
        return after - before >= SEVERE_LOWER_BY
    return after - before >= SEVERE_BY and after >= SEVERE_TIMES * before


def _excess(told: Told) -> float:
    """By how much evidence is above its level, a pair's counting for less."""
    return told.evidence - told.level - PAIR_COST * (";" in told.alarm.slice_name)


def _overlap(one: str, other: str) -> bool:
    """Whether something may belong to both slices."""
    mine, theirs = dimensions(one), dimensions(other)
    return all(theirs.get(name, value) == value for name, value in mine.items())
