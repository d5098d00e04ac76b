"""When a critical alarm, or one long known, is over: a test of its own, for what follows the onset.

It is the CUSUM of the log likelihood ratio of the rate or mean before over one halfway to what it surely
became (Page, "Continuous inspection schemes", 1954), which reaches `RECOVERED` by chance less than once in a
thousand observations as bad as halfway, and hardly ever in worse ones. An alarm is withdrawn when all that
came since it began lies within `SURE` standard errors of before.

>>> series = Watching(severity="critical", before=0.0, after=2.0, settled=True)
>>> def gain(before, bad):
...     return 10 * (before - bad) ** 2
>>> [recovers(series, 10, 0.0, gain=gain, enough=20) for _ in range(2)]
[False, True]
"""

from __future__ import annotations

from collections.abc import Callable
from math import copysign, log
from typing import Final

from detectors.alarm import Watching

RECOVERED: Final = log(1_000.0)
SURE: Final = 2.0
"""Standard errors."""

Gain = Callable[[float, float], float]
Error = Callable[[float, float], float]


def recovers(
    series: Watching, count: float, total: float, *, gain: Gain, enough: int, error: Error | None = None
) -> bool:
    """Take `count` observations with a sum or hits of `total` in; whether with them the alarm is over, for
    which it takes `enough` at least.

    Args:
        gain: their log likelihood ratio of one level (rate or mean) over another.
        error: the standard error of the difference between the level before and one known from so many
            observations.
    """
    bad, withdrawn = series.after, False
    if error is not None:
        # When an alarm is raised the change looks larger than it is; what follows tells how large it is.
        series.after = series.bad_total / series.bad_count
        way, doubt = series.after - series.before, SURE * error(series.after, series.bad_count)
        withdrawn = abs(way) < doubt and series.bad_count >= enough
        sure = series.before + copysign(max(abs(way) - doubt, abs(way) / 5), way)
        # What once was sure stays so, whatever a recovery has mixed in since.
        bad = series.sure = max(series.sure, sure, key=lambda each: abs(each - series.before))
    series.recovered += gain(series.before, (series.before + bad) / 2)
    series.count += count
    series.total += total
    if series.recovered <= 0:
        series.bad_count += series.count
        series.bad_total += series.total
        series.recovered = series.count = series.total = 0.0
    if not withdrawn and (series.recovered < RECOVERED or series.count < enough):
        return False
    series.settled = False
    series.severity = ""
    series.recovered = series.count = series.total = series.evidence = 0.0
    return True
