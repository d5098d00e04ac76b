"""The global stop's figures: the quantiles are over all agents, and a bar that is missed is said to be."""

from __future__ import annotations

import pytest

from bench.global_stop import Round, summary
from bench.report import global_stop_markdown


def stopped(*denied_s: float, waited_s: float = 0.0) -> Round:
    return Round(list(denied_s), [second - waited_s for second in denied_s], [9.0] * len(denied_s), 0.5)


@pytest.mark.parametrize(
    ("rounds", "met", "unhindered_met"),
    [
        ([stopped(*([0.2] * 100)), stopped(*([0.3] * 100))], True, True),
        ([stopped(*([0.2] * 98), 1.1, 1.2, waited_s=0.5)], False, True),
        ([stopped(*([0.2] * 999), 5.5, waited_s=0.1)], False, False),
    ],
)
def test_both_bars_count_over_all_agents_of_all_rounds(
    rounds: list[Round], met: bool, unhindered_met: bool
) -> None:
    found = summary(rounds)
    assert (found["met"], found["unhindered_met"]) == (met, unhindered_met)
    assert found["max_s"] == max(second for each in rounds for second in each.denied_s)
    assert len(found["rounds"]) == len(rounds)


def test_the_page_says_what_was_met() -> None:
    machine = {
        "processor": "p",
        "cores": 2,
        "load_average_1m": 9,
        "system": "s",
        "python": "3",
        "versions": {},
    }
    circumstances = {**machine, "commit": "c", "date": "d"}
    rounds = summary([stopped(*([0.2] * 98), 1.1, 1.2, waited_s=0.5)])
    result = {"machine": circumstances, "broker": "b", "agents": 1_000, "processes": 4, **rounds}
    page = global_stop_markdown(result)
    assert "not met, unhindered met" in page
    assert "| gate denies | 0.200 | 0.200 | 1.100 | 1.200 |" in page
