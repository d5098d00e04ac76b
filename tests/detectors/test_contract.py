"""What every registered detector must hold to."""

from __future__ import annotations

import doctest
import importlib
import inspect
import pkgutil
import sys
from pathlib import Path
from types import ModuleType

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import detectors
from detectors.base import BehaviourDetector, Detector, SessionDetector, slot
from detectors.offline import Engine
from detectors.registry import BEHAVIOUR, ENGINE, FLEET, FLEET_WINDOWS, SESSION, SUMMARIES
from detectors.testing import event, run_windows, window
from detectors.windows import SequenceSpan, Window
from schemas.event import AgentEvent
from tests.detectors.streams import LLM, streams

WINDOWED = (*BEHAVIOUR, *ENGINE, *FLEET_WINDOWS)
EVERY: tuple[Detector, ...] = (*SESSION, *WINDOWED, *FLEET, *SUMMARIES)
MAX_LINES = 150


def module_of(detector: Detector) -> ModuleType:
    return sys.modules[type(detector).__module__]


@pytest.mark.parametrize(
    "name",
    sorted(
        name for _, name, package in pkgutil.walk_packages(detectors.__path__, "detectors.") if not package
    ),
)
def test_examples_run(name: str) -> None:
    module = importlib.import_module(name)
    result = doctest.testmod(module)
    assert result.failed == 0
    assert result.attempted > 0 or module not in map(module_of, EVERY)


@pytest.mark.parametrize("detector", EVERY, ids=lambda detector: detector.name)
def test_file_is_named_after_it_short_and_says_statistic_unit_and_source(detector: Detector) -> None:
    path = Path(inspect.getfile(type(detector)))
    text = path.read_text(encoding="utf-8")
    assert path.stem == detector.name
    assert len(text.splitlines()) <= MAX_LINES
    assert "Statistic:" in text
    assert "Unit" in text
    assert "Source:" in text or "Derivation" in text


def test_names_are_unique() -> None:
    assert len({detector.name for detector in EVERY}) == len(EVERY)


@pytest.mark.parametrize("detector", EVERY, ids=lambda detector: detector.name)
def test_empty_state_encodes_and_decodes(detector: SessionDetector) -> None:
    state = detector.State()
    assert msgspec.msgpack.decode(msgspec.msgpack.encode(state), type=detector.State) == state
    assert slot(detector) == f"{detector.name}/{detector.version}"


def healthy(sessions: int = 40) -> list[AgentEvent]:
    """Sessions that do seven different things and end, one refusal in fifty calls, nothing lost."""
    made: list[AgentEvent] = []
    for session in range(sessions):
        fields: list[dict[str, object]] = [{"type": "session.start", "declared_tools": ["search", "read"]}]
        for turn in range(6):
            fields.append({**LLM, "refusal": (session * 6 + turn) % 50 == 0})
            call = {"tool": "search", "arguments_hash": f"a{turn}", "result_hash": f"r{turn}", "status": "ok"}
            fields.append({"type": "tool.call", **call})
        fields.append({"type": "message", "to_agent": "writer", "intent": "request", "content_hash": "c"})
        fields.append({"type": "message", "agent": "writer", "to_agent": "agent", "intent": "answer"})
        fields.append({"type": "session.end", "outcome": "completed"})
        for each in fields:
            number = len(made)
            extra = {"session": f"s{session}", "seq": number, "process": "p"} if "agent" not in each else {}
            made.append(event(number, {"session": f"s{session}", **each, **extra}))
    return made


def test_nothing_is_found_in_health() -> None:
    assert [found for found in Engine().run(healthy()) if found.detector != "telemetry_gap"] == []
    assert list(Engine().run([])) == []


@settings(max_examples=25, deadline=None)
@given(streams())
def test_ids_are_the_same_for_the_same_input_and_no_detection_comes_twice(records: list[AgentEvent]) -> None:
    first = [found.detection_id for found in Engine().run(records)]
    assert first == [found.detection_id for found in Engine().run(records)]
    assert len(first) == len(set(first))


@pytest.mark.parametrize("detector", SESSION, ids=lambda detector: detector.name)
@settings(max_examples=15, deadline=None)
@given(records=streams())
def test_detectors_do_not_depend_on_each_other(detector: SessionDetector, records: list[AgentEvent]) -> None:
    alone = {found.detection_id for found in Engine([detector], ()).run(records)}
    together = {found.detection_id for found in Engine().run(records) if found.detector == detector.name}
    assert alone == together


@st.composite
def window_runs(draw: st.DrawFn) -> list[Window]:
    made: list[Window] = []
    for calls, refusals, lost in draw(
        st.lists(st.tuples(st.integers(0, 30), st.integers(0, 6), st.sampled_from([0, 0, 3])), max_size=40)
    ):
        number = len(made)
        span = SequenceSpan(10 - lost, 10 * number, 10 * number + 9)
        known = {"refusals_known": calls, "refusals": min(calls, refusals), "llm_calls": calls}
        made.append(window(number, processes={"p": span}, **known))
    return made


@pytest.mark.parametrize("detector", WINDOWED, ids=lambda detector: detector.name)
@settings(max_examples=25, deadline=None)
@given(records=window_runs(), data=st.data())
def test_a_restart_anywhere_changes_no_behaviour_detection(
    detector: BehaviourDetector, records: list[Window], data: st.DataObject
) -> None:
    expected = [found.detection_id for found in run_windows(detector, records)]
    cut = data.draw(st.integers(0, len(records)))
    assert [found.detection_id for found in run_windows(detector, records, restart_at=cut)] == expected
