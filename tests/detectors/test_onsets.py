"""What sequential tests share must hold for any sizes of frames, the first ones too."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from detectors.sequential.mean import MeanChange
from detectors.sequential.rate import RateChange


@settings(max_examples=150, deadline=None)
@given(st.lists(st.sampled_from([1, 2, 5, 40, 500]), min_size=1, max_size=40))
def test_frames_of_any_size_are_taken(counts: list[int]) -> None:
    rate, rates = RateChange(), RateChange.State()
    mean, means = MeanChange(), MeanChange.State()
    for at, count in enumerate(counts):
        rate.update(rates, count, count // 5, at)
        mean.update(means, count, float(count), float(count), at)


def test_a_first_frame_larger_than_all_that_follow() -> None:
    test, state = RateChange(), RateChange.State()
    for at, count in enumerate((40, 5, 5, 5, 5, 5, 5, 5)):
        assert test.update(state, count, 0, at) is None
