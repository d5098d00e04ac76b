"""What is drawn of a detection is what it measured, wherever that is in the windows."""

from __future__ import annotations

import pytest

from detectors.activity import Activity, Moments
from detectors.signals import of_metric


@pytest.mark.parametrize("detector", ["version_regression", "slo_burn"])
def test_an_evaluation_is_drawn_under_its_own_name(detector: str) -> None:
    activity = Activity(evaluations={"groundedness": Moments(4, 3_000_000)})
    signal = of_metric(detector, "evaluation:groundedness")
    assert (signal.name, signal.compared, signal.slice_name) == ("evaluation:groundedness", True, "")
    assert signal.read(activity) == (4, 3.0)


def test_a_slice_is_drawn_alone() -> None:
    assert of_metric("slice_regression", "sessions:language=de").slice_name == "language=de"
