"""Windows compared with the whole reference, as drift reports do it: a side of the comparison of delays."""

from __future__ import annotations

import warnings
from dataclasses import dataclass

import numpy as np
from scipy import stats
from scipy.stats import contingency

from bench.eval.delay_changes import Change, Floats
from bench.eval.delay_rivals import SMALLEST_P


@dataclass(frozen=True, slots=True)
class Windows:
    """The newest window against the whole reference, whenever a window is full, as Evidently's reports do:
    Kolmogorov-Smirnov for values, chi-square for rates.
    """

    size: int = 100
    default: float | None = 1.3
    thrift: int = 1

    @property
    def name(self) -> str:
        return f"windows of {self.size} (scipy)"

    def scores(self, change: Change, stream: Floats, reference: int) -> Floats:
        old, result = stream[:reference], np.zeros(len(stream) - reference)
        for end in range(self.size, len(result) + 1, self.size):
            new = stream[reference + end - self.size : reference + end]
            result[end - 1] = -np.log10(max(self._p_value(change, old, new), SMALLEST_P))
        return result

    def _p_value(self, change: Change, old: Floats, new: Floats) -> float:
        if change.kind != "rate":
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", category=RuntimeWarning)
                return float(stats.ks_2samp(old, new, method="asymp").pvalue)
        table = [[each.sum(), len(each) - each.sum()] for each in (old, new)]
        if not np.sum(table, axis=0).all():
            return 1.0
        return float(contingency.chi2_contingency(table).pvalue)
