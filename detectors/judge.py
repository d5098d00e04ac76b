"""Whether it may be the judge that has changed, and not what it judges.

Canaries, whose answers are known, and thumbs of users see the same answers as the judge. Where they had
enough to see and nothing got worse for them, where thumbs contradict the judge more than before, or where
somebody else began to score, its scores alone prove nothing about the agent.

>>> from detectors.activity import Activity, CallCounts
>>> seen = Witnesses()
>>> for hour in range(40):
...     witness(seen, Activity(canaries={"known": CallCounts(6, 0)}), 3_600_000 * hour)
>>> doubts(seen, 30 * 3_600_000)
'the judge itself may have changed: canaries hold'
"""

from __future__ import annotations

from typing import Final

import msgspec

from detectors.activity import Activity
from detectors.ledger import Ledger, note, split

MAX_EVALUATORS: Final = 8
ENOUGH: Final = {"canaries": 10, "thumbs": 20, "contradictions": 8}
"""From how many on each has looked: runs, thumbs, and thumbs on what was scored."""
HOLDS: Final = 0.1
CONTRADICTS: Final = 0.2
"""By how much the share of bad ones may rise until it does not hold, or must rise to contradict."""
NEAR_MS: Final = 3_600_000
DOUBT: Final = "the judge itself may have changed: "


class Witnesses(msgspec.Struct):
    """When each of those who score was first seen; of canaries, thumbs and thumbs on what was scored how many
    there were and how many failed, were down, or contradicted the score.
    """

    evaluators: dict[str, int] = {}
    ledger: Ledger = msgspec.field(default_factory=Ledger)


def witness(seen: Witnesses, activity: Activity, at_ms: float) -> None:
    """Take in what others than the judge say."""
    canaries, judged = activity.canaries.values(), activity.judged.values()
    down = activity.feedback.get("thumb_down", 0)
    sums = [
        sum(each.calls for each in canaries),
        sum(each.errors for each in canaries),
        activity.feedback.get("thumb_up", 0) + down,
        down,
        sum(each.calls for each in judged),
        sum(each.errors for each in judged),
    ]
    if any(sums):
        note(seen.ledger, at_ms, sums)
    for each in sorted(activity.evaluators):
        if each not in seen.evaluators and len(seen.evaluators) < MAX_EVALUATORS:
            seen.evaluators[each] = int(at_ms)


def doubts(seen: Witnesses, began_ms: float) -> str:
    """Why it may be the judge that changed then; '' where nothing speaks for that."""
    earliest = min(seen.evaluators.values(), default=0)
    for name, first_ms in sorted(seen.evaluators.items()):
        if first_ms > earliest and first_ms >= began_ms - NEAR_MS:
            return f"{DOUBT}{name} began to score then"
    before, since = split(seen.ledger, began_ms)
    rises = {
        name: since[at + 1] / since[at] - (before[at + 1] / before[at] if before[at] else 0.0)
        for at, (name, enough) in zip((0, 2, 4), ENOUGH.items(), strict=True)
        if since and since[at] >= enough
    }
    contradicted = rises.pop("contradictions", 0.0)
    if any(rise > HOLDS for rise in rises.values()):
        return ""
    if contradicted > CONTRADICTS:
        return f"{DOUBT}thumbs contradict it more than before"
    return f"{DOUBT}{' and '.join(rises)} hold" if rises else ""
