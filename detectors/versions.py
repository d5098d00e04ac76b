"""Which versions an agent runs, and the trials of new ones: what is counted as old, and what as new.

A version is new when it is first seen (in the slices: agent version, prompt, model, index of a name) of an
agent of which enough is known; or when a deployment is announced of something that does not show in the
slices (a tool, a configuration): then everything after it is new. What comes within ten minutes of each other
is one trial. A trial ends when the next version comes, when the new one is not seen for a day, or after 14
days; the new one is then what the next is compared with, unless it was worse or gone.

>>> versions_of("prompt=v8;index=handbook%402")
(('prompt', 'v8'), ('index handbook', '2'))
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import lru_cache
from typing import Final

import msgspec

from detectors.activity import Activity
from detectors.comparisons import HOUR_MS, NEW, OLD, UNTOLD, Lines, Pool, Role, has_room
from detectors.indicators import present
from detectors.slices import dimensions
from detectors.windows import DeploymentSeen, Window

DAY_MS: Final = 24 * HOUR_MS
LONGEST_MS: Final = 14 * DAY_MS
TOGETHER_MS: Final = 10 * 60_000
ANNOUNCED_MS: Final = DAY_MS
MIN_KNOWN: Final = 100.0
MAX_TRIALS: Final = 2
MAX_GROUPS: Final = 8
MAX_VALUES: Final = 12
MAX_ALSO: Final = 3
SHOWN: Final = {"prompt": "prompt", "model": "model", "agent": "version"}
"""The slice in which a component of a deployment shows."""


class Trial(msgspec.Struct):
    """A new version beside or after an old one. `part` is what it is a version of; `also` what came with it;
    `timed`: it does not show in the slices. `said` and `told` are what has been reported.
    """

    part: str
    new: str
    old: str
    since_ms: int
    timed: bool = False
    event_id: str = ""
    also: list[str] = []
    new_ms: int = 0
    old_ms: int = 0
    pools: dict[str, Pool] = {}
    said: str = ""
    told: bool = False

    @property
    def verdict(self) -> str:
        """Over all indicators: worse if one is, better if one is and none is worse, the same if all are."""
        verdicts = {pool.verdict for pool in self.pools.values()} - {"other"}
        for each in ("worse", "better"):
            if each in verdicts:
                return each
        return "same" if verdicts == {"same"} else "not yet known"

    @property
    def title(self) -> str:
        """What is new, for people."""
        return " with ".join((f"{self.part} {self.new}", *self.also))

    def role(self, key: str) -> Role:
        """Of the activity of a combination of slices."""
        if self.timed:
            return NEW
        value = dict(versions_of(key)).get(self.part)
        return UNTOLD if value is None else NEW if value == self.new else OLD


class Versions(msgspec.Struct):
    """`values` are the versions seen by what they are of, with the time each was last seen; `lines` what the
    agent does outside trials; `begun` how many trials there were since `first_ms`.
    """

    first_ms: int = -1
    lines: Lines = msgspec.field(default_factory=Lines)
    values: dict[str, dict[str, int]] = {}
    announced: list[DeploymentSeen] = []
    trials: list[Trial] = []
    begun: int = 0

    def take(self, window: Window, whole: Activity) -> None:
        """Take a frame in: `whole` is all of its slices together."""
        at_ms = window.start_ms
        if self.first_ms < 0:
            self.first_ms = at_ms
        if self.lines.turn(at_ms):
            self._close_hour(at_ms)
        for seen in window.deployments:
            self._announce(seen)
        for part, value in _versions_in(window.parts):
            self._see(part, value, window)
        if not self.trials:
            for name, sums in present(whole).items():
                self.lines.add(name, sums, at_ms)
        for trial in self.trials:
            for role, activity in _by_role(window.parts, whole, trial.role):
                self._count(trial, role, activity, window)

    def _count(self, trial: Trial, role: Role, activity: Activity, window: Window) -> None:
        if role == NEW:
            trial.new_ms = window.end_ms
        elif role == OLD:
            trial.old_ms = window.end_ms
        for name, sums in present(activity).items():
            pool = trial.pools.get(name)
            if pool is None:
                if not has_room(trial.pools, name):
                    continue
                pool = trial.pools[name] = Pool([0.0] * 5)
            pool.add(role, self.lines.even(name, sums, window.start_ms))

    def _announce(self, seen: DeploymentSeen) -> None:
        part = SHOWN.get(seen.component, f"{seen.component} {seen.name}")
        if part in self.values:
            self.announced = [*self.announced, seen][-MAX_TRIALS:]
        else:
            old = seen.from_version or "before"
            self._begin(Trial(part, seen.to_version, old, seen.time_ms, timed=True, event_id=seen.event_id))

    def _see(self, part: str, value: str, window: Window) -> None:
        known = self.values.get(part)
        if known is None:
            if len(self.values) >= MAX_GROUPS:
                return
            known = self.values[part] = {}
        # Of an index that was never read before there is no old version.
        if value not in known and (known or part in _RANK):
            old = max(known, key=known.__getitem__, default="before")
            too_many = len(known) >= MAX_VALUES
            forgotten = min(known, key=known.__getitem__) if too_many else ""
            # What has ever new values is no version.
            if not too_many or known[forgotten] < window.start_ms - DAY_MS:
                event_id = self._announcement(part, value, window)
                self._begin(Trial(part, value, old, window.start_ms, event_id=event_id))
            if too_many:
                del known[forgotten]
        known[value] = window.start_ms

    def _announcement(self, part: str, value: str, window: Window) -> str:
        """The event that announced a version, if one did."""
        for seen in reversed(self.announced):
            shown = SHOWN.get(seen.component, f"{seen.component} {seen.name}")
            if shown == part and seen.time_ms > window.start_ms - ANNOUNCED_MS and seen.to_version in value:
                return seen.event_id
        return ""

    def _ready(self) -> bool:
        return any(line.sums[0] >= MIN_KNOWN for line in self.lines.kept.values())

    def _begin(self, new: Trial) -> None:
        at_ms = new.since_ms
        for trial in self.trials:
            if trial.part != new.part and abs(at_ms - trial.since_ms) <= TOGETHER_MS:
                trial.also = [*trial.also, new.title][:MAX_ALSO]
                trial.event_id = trial.event_id or new.event_id
                return
        for trial in list(self.trials):
            gone = trial.old_ms < at_ms - HOUR_MS
            if trial.part == new.part or (gone and trial.verdict != "worse"):
                self._end(trial, at_ms)
        if not self._ready():
            return
        if len(self.trials) >= MAX_TRIALS:
            self._end(self.trials[0], at_ms)
        new.new_ms = at_ms
        new.pools = {name: Pool(line.known()) for name, line in self.lines.kept.items()}
        self.trials.append(new)
        self.begun += 1

    def _close_hour(self, at_ms: int) -> None:
        for trial in list(self.trials):
            for pool in trial.pools.values():
                pool.close_hour()
            if trial.new_ms < at_ms - DAY_MS or trial.since_ms < at_ms - LONGEST_MS:
                self._end(trial, at_ms)

    def _end(self, trial: Trial, at_ms: int) -> None:
        self.trials.remove(trial)
        if trial.verdict == "worse" or trial.new_ms < at_ms - DAY_MS:
            return
        for name, pool in trial.pools.items():
            line = self.lines.kept.get(name)
            matched, after = pool.sides()
            count, total, squares = (sum(both) for both in zip(matched.new, after.new, strict=True))
            if line is None or count < MIN_KNOWN:
                continue
            # How hours differ is taken to be as it was.
            before = line.known()
            apart = before[3] - before[1] ** 2 / before[0]
            line.sums = [count, total, squares, total**2 / count + apart, before[4]]
            line.hour = [0.0, 0.0]


def _versions_in(parts: dict[str, Activity]) -> list[tuple[str, str]]:
    found = {
        (part, value)
        for key, activity in parts.items()
        for part, value in versions_of(key)
        # A call that failed does not say which model would have answered, only which was asked for.
        if part != "model" or activity.llm_calls > activity.llm_errors
    }
    return sorted(found, key=lambda version: (_RANK.get(version[0], len(_RANK)), version))


def _by_role(
    parts: dict[str, Activity], whole: Activity, role_of: Callable[[str], Role]
) -> Iterator[tuple[Role, Activity]]:
    roles = {key: role_of(key) for key in parts}
    if len(set(roles.values())) == 1:
        yield next(iter(roles.values())), whole
        return
    for role in sorted(set(roles.values())):
        activity = Activity()
        for key, part in parts.items():
            if roles[key] == role:
                activity.merge(part)
        yield role, activity


@lru_cache(maxsize=4_096)
def versions_of(key: str) -> tuple[tuple[str, str], ...]:
    """The versions in a combination of slices: what each is of, and which."""
    found: list[tuple[str, str]] = []
    for name, value in dimensions(key).items():
        if name in _RANK:
            found.append((name, value))
        elif name == "index" and "@" in value:
            of, _, version = value.rpartition("@")
            found.append((f"index {of}", version))
    return tuple(found)


_RANK: Final = {"prompt": 0, "model": 1, "version": 2}
"""What is named first of several that came together."""
