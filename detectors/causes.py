"""What else changed with a rise of latency or cost, in words: what the rise is attributed to.

>>> why_slow([100, 0, 90_000, 12_000, 0, 0], [50, 20, 45_000, 6_000, 0, 0])
'rate limits, 40% of calls are throttled'
>>> why_dear([100, 200, 200_000, 10_000_000], [50, 300, 330_000, 17_000_000])
'calls a session rose from 2.0 to 6.0'
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import exp, log
from typing import Final

import msgspec

from detectors.activity import ToolUse
from detectors.bins import log_bin, log_moments
from detectors.slices import OTHER

MAX_TOOLS: Final = 8
SETTLED: Final = 50
"""Calls from which on it is known how long a tool takes."""
RECENT: Final = 20.0
MUCH: Final = 1.3
THROTTLED: Final = 0.02
CENTRE: Final = 1_000
"""The bin of durations that are as usual."""
SHARE: Final = 0.2
"""Of a rise, from which on a factor is worth naming."""


class ToolTime(msgspec.Struct, array_like=True):
    """Calls of a tool; means of the logarithm of milliseconds, of the first and of the latest of them."""

    calls: int = 0
    usual: float = 0.0
    latest: float = 0.0


Tools = dict[str, ToolTime]


def slowness(tools: Tools, uses: Mapping[str, ToolUse]) -> dict[int, int]:
    """Durations in log bins relative to each tool's usual one, which is at `CENTRE`; learns what is usual."""
    made: dict[int, int] = {}
    for name, use in sorted(uses.items()):
        if not use.duration_bins or name == OTHER:
            continue
        time = tools.get(name)
        if time is None:
            if len(tools) == MAX_TOOLS:
                continue
            time = tools[name] = ToolTime()
        count, total, _ = log_moments(use.duration_bins)
        mean = total / count
        if time.calls >= SETTLED:
            shift = CENTRE - log_bin(exp(time.usual))
            for place, here in use.duration_bins.items():
                made[place + shift] = made.get(place + shift, 0) + here
            time.latest += (mean - time.latest) * min(1.0, count / RECENT)
        else:
            time.usual += (mean - time.usual) * count / (time.calls + count)
            time.latest = time.usual
        time.calls += count
    return made


def slowest(tools: Tools) -> str:
    """The tool whose latest calls are slowest for it."""
    name, time = max(sorted(tools.items()), key=lambda each: each[1].latest - each[1].usual)
    return f"{name} takes {exp(time.latest):,.0f} ms instead of {exp(time.usual):,.0f} ms"


def why_slow(before: Sequence[float], since: Sequence[float]) -> str:
    """Why model calls take longer. The sums are of calls, throttled ones, tokens read and written, times to
    the first token, and their milliseconds.
    """
    if not before or not before[0] or not since[0]:
        return "what else changed is not known yet"
    causes = []
    if since[1] / since[0] >= max(THROTTLED, 2 * before[1] / before[0]):
        causes.append(f"rate limits, {since[1] / since[0]:.0%} of calls are throttled")
    read, write = ((before[at] / before[0], since[at] / since[0]) for at in (2, 3))
    if read[1] > MUCH * read[0] > 0:
        causes.append(f"the context grew, from {read[0]:,.0f} to {read[1]:,.0f} tokens a call")
    if write[1] > MUCH * write[0] > 0:
        causes.append(f"answers grew, from {write[0]:,.0f} to {write[1]:,.0f} tokens a call")
    if causes:
        return "; ".join(causes)
    where = "the model or its provider, as contexts and answers are no longer and nothing is throttled"
    if before[4] and since[4]:
        first = (before[5] / before[4], since[5] / since[4])
        where += f" (first token after {first[1]:,.0f} ms instead of {first[0]:,.0f} ms)"
    return where


def why_dear(before: Sequence[float], since: Sequence[float]) -> str:
    """Why sessions cost more. The sums are of sessions, model calls of known cost, tokens, micro-dollars."""
    if not before or not all(before) or not all(since):
        return "what else changed is not known yet"
    names = ("calls a session", "tokens a call", "dollars a million tokens")
    forms = (",.1f", ",.0f", ",.2f")
    was, became = ([sums[at + 1] / sums[at] for at in range(3)] for sums in (before, since))
    rises = [log(new / old) for old, new in zip(was, became, strict=True)]
    whole = sum(rise for rise in rises if rise > 0)
    told = [
        f"{names[at]} {'rose ' if not number else ''}from {was[at]:{forms[at]}} to {became[at]:{forms[at]}}"
        for number, at in enumerate(sorted(range(3), key=lambda each: -rises[each]))
        if rises[at] > 0 and rises[at] >= SHARE * whole
    ]
    return ", and ".join(told) or "neither calls, tokens nor prices explain it: a few sessions cost much more"
