"""Every detector that can page has a runbook, and every runbook a detector."""

from __future__ import annotations

import pytest

from detectors.registry import BEHAVIOUR, ENGINE, FLEET, FLEET_WINDOWS, SESSION, SUMMARIES
from responders.pages.page import ENGINE_RUNBOOK
from responders.pages.runbooks import NoRunbookError, runbook, sections

DETECTORS = (*SESSION, *BEHAVIOUR, *FLEET, *FLEET_WINDOWS, *SUMMARIES, *ENGINE)
NAMES = {detector.name for detector in DETECTORS} | {ENGINE_RUNBOOK}


def test_every_detector_has_one() -> None:
    assert set(sections()) - NAMES == set()
    assert NAMES - set(sections()) == set()


@pytest.mark.parametrize("name", sorted(sections()))
def test_it_says_what_it_means_where_to_look_what_to_do_and_when_it_is_wrong(name: str) -> None:
    headings = [line.split("**")[1] for line in runbook(name).splitlines() if line.startswith("- **")]
    assert headings == ["Means:", "Look at:", "Do:", "Wrong when:"]


def test_an_unknown_name_says_which_was_meant() -> None:
    with pytest.raises(NoRunbookError, match="did you mean tool_loop"):
        runbook("tool_lop")
