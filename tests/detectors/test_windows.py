"""Windows: what is counted, that merging is associative and commutative, and that the contract is kept."""

from __future__ import annotations

from functools import reduce

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from detectors import activity
from detectors.base import SessionFacts
from detectors.slices import OTHER, Slicer, slice_key
from detectors.testing import START_MS, event
from detectors.windows import (
    MAX_PARTS,
    MERGED,
    DeploymentSeen,
    Mark,
    ProviderCalls,
    SequenceSpan,
    Window,
    decode,
    fleet_windows,
)
from schemas import window as contract
from schemas.event import AgentEvent
from schemas.window import WINDOW_RECORD, AgentWindow, AgentWindowMark
from tests.detectors.streams import CALL, LLM, streams

FACTS = SessionFacts(
    tenant="t", session="s", llm_calls=3, cost_usd=0.25, confidence=0.83, judged={"groundedness": 0.9}
)
few = settings(max_examples=40, deadline=None)


def window_of(events: list[AgentEvent], partition: int = 0) -> Window:
    made = Window(
        tenant="default", agent="agent", start_ms=START_MS, duration_ms=10_000, source_partition=partition
    )
    slicer = Slicer()
    for each in events:
        made.add(each, slice_key(slicer.after(None, each)), FACTS)
    return made


def merged(*windows: Window) -> bytes:
    def merge(left: Window, right: Window) -> Window:
        left.merge(right)
        return left

    copies = [decode(each.encode()) for each in windows]
    result = reduce(merge, [each for each in copies if isinstance(each, Window)])
    return result.encode()


@few
@given(streams(), streams(), streams())
def test_merging_is_associative_and_commutative(
    first: list[AgentEvent], second: list[AgentEvent], third: list[AgentEvent]
) -> None:
    a, b, c = (window_of(events, place) for place, events in enumerate((first, second, third)))
    left, right = decode(merged(a, b)), decode(merged(b, c))
    assert isinstance(left, Window)
    assert isinstance(right, Window)
    assert merged(left, c) == merged(a, right)
    assert merged(a, b) == merged(b, a)


@few
@given(streams(), st.integers(0, 60))
def test_any_split_merges_to_the_whole(events: list[AgentEvent], cut: int) -> None:
    whole = window_of(events, MERGED)
    assert merged(window_of(events[:cut], 1), window_of(events[cut:], 2)) == merged(whole)


@few
@given(streams())
def test_what_is_written_is_the_contract(events: list[AgentEvent]) -> None:
    made = window_of(events)
    read = WINDOW_RECORD.validate_json(made.encode())
    assert isinstance(read, AgentWindow)
    assert decode(read.model_dump_json().encode()) == made


@pytest.mark.parametrize(
    ("struct", "model"),
    [
        (Window, AgentWindow),
        (Mark, AgentWindowMark),
        (ProviderCalls, contract.ProviderCalls),
        (DeploymentSeen, contract.DeploymentSeen),
        (activity.Activity, contract.Activity),
        (activity.Moments, contract.Moments),
        (activity.CallCounts, contract.CallCounts),
        (activity.ToolUse, contract.ToolUse),
        (activity.Calibration, contract.Calibration),
        (activity.CalibrationBin, contract.CalibrationBin),
        (activity.EmbeddingSums, contract.EmbeddingSums),
        (SequenceSpan, contract.SequenceSpan),
    ],
)
def test_fields_are_those_of_the_contract(
    struct: type[msgspec.Struct], model: type[contract.Contract]
) -> None:
    assert set(struct.__struct_fields__) | {"schema_"} == set(model.model_fields) | {"schema_"}


def test_what_is_not_known_is_not_counted_as_its_opposite() -> None:
    calls = [event(0, LLM), event(1, {**LLM, "refusal": False}), event(2, {**LLM, "refusal": True})]
    made = window_of(calls)
    total = made.total()
    assert (total.llm_calls, total.refusals_known, total.refusals) == (3, 2, 1)
    assert (total.cost_known_calls, total.cost_unknown_calls, total.cost_usd_micro) == (0, 3, 0)
    assert made.samples == {"refusal": ["e2"]}


def test_names_and_sums_are_bounded_whatever_an_agent_claims() -> None:
    calls = [
        event(
            number,
            {
                **LLM,
                "input_tokens": 2**53 - 1,
                "cost_usd": 1e300,
                "duration_ms": 1e300,
                "provider": f"p{number}",
            },
        )
        for number in range(500)
    ]
    made = window_of(calls)
    assert len(made.parts) == MAX_PARTS + 1
    assert made.total().llm_calls == 500
    assert decode(made.encode()) == made
    [fleet] = fleet_windows([made])
    assert sum(each.calls for each in fleet.providers.values()) == 500 - made.parts[OTHER].llm_calls


@few
@given(st.permutations(range(120)), st.integers(0, 120))
def test_what_there_is_no_room_for_is_the_same_whatever_the_order_and_split(
    order: list[int], cut: int
) -> None:
    calls = [
        event(number, {**LLM, "provider": f"p{number % 90}", "seq": number, "process": f"{number}"})
        for number in order
    ]
    whole = window_of(sorted(calls, key=lambda each: each.event_id), MERGED)
    assert merged(window_of(calls[:cut], 1), window_of(calls[cut:], 2)) == merged(whole)


def test_sequences_span_what_came() -> None:
    calls = [event(number, {**CALL, "seq": seq, "process": "p"}) for number, seq in enumerate([7, 5, 9])]
    assert window_of(calls).processes == {"p": SequenceSpan(3, 5, 9)}
