"""A session as one vector: what it took and what happened in it, on logarithmic scales.

>>> show(0, vector(SessionSummary(tenant="t", agent="a", session="s", start_ms=0, end_ms=1, steps=7,
...                               source_topic="e", source_partition=0, source_offset=0))[0], 0.7)
'7 steps (usually 1)'
"""

from __future__ import annotations

from math import expm1, log1p
from typing import Final

import numpy as np
from numpy.typing import NDArray

from detectors.summary import SessionSummary

COST: Final = 2
SHOWN: Final = (
    "{:,.0f} steps (usually {:,.0f})",
    "{:,.0f} tokens (usually {:,.0f})",
    "{:,.1f} cents (usually {:,.1f})",
    "{:,.0f} s (usually {:,.0f})",
    "{:,.0f} calls (usually {:,.0f})",
    "{:,.0f} errors (usually {:,.0f})",
    "{:,.0f} escalations (usually {:,.0f})",
    "{:,.0f} clarifications (usually {:,.0f})",
)


def vector(summary: SessionSummary) -> NDArray[np.float64]:
    """What a session was like, shape (features,): logarithms of one more than each, of cost in cents."""
    measured = (
        summary.steps,
        summary.tokens,
        summary.cost_usd_micro / 1e4,
        max(summary.end_ms - summary.start_ms, 0) / 1e3,
        summary.llm_calls + summary.tool_calls,
        summary.errors,
        summary.escalations,
        summary.clarifications,
    )
    return np.array([log1p(each) for each in measured])


def show(feature: int, seen: float, usual: float) -> str:
    """A feature as people read it, and what it usually is."""
    return SHOWN[feature].format(expm1(seen), expm1(usual))
