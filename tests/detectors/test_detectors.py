"""What each detector finds, how soon, and what it lets pass: the incidents' own figures and healthy work."""

from __future__ import annotations

from typing import Any

import pytest

from detectors.behaviour.refusal_rate import RefusalRate
from detectors.engine.telemetry_gap import TelemetryGap
from detectors.offline import Engine
from detectors.session.budget import Budget
from detectors.session.orphaned_session import OrphanedSession
from detectors.session.ping_pong import PingPong
from detectors.session.retry_storm import RetryStorm
from detectors.session.tool_loop import ToolLoop
from detectors.session.undeclared_tool import UndeclaredTool
from detectors.testing import events, run, run_windows, window
from detectors.windows import SequenceSpan
from tests.detectors.streams import ASK, CALL, FAILED, LLM

Fields = list[dict[str, Any]]
START = {"type": "session.start"}


def turns(calls: Fields) -> Fields:
    """Each call with the turn of the model that asked for it."""
    return [each for call in calls for each in (LLM, call)]


class TestToolLoop:
    def test_14_000_identical_listings_are_stopped_at_the_fifth(self) -> None:
        stream = events(turns([{**CALL, "tool": "list_files"}] * 200), gap_ms=1_300)
        assert run(ToolLoop(), stream) == [("critical", "e9", 5.0)]

    def test_a_cycle_of_searches_with_the_same_results_is_a_loop(self) -> None:
        cycle = [{**CALL, "arguments_hash": f"a{number}"} for number in range(4)]
        found = run(ToolLoop(), events(cycle * 6, gap_ms=2_000))
        assert [severity for severity, _, _ in found] == ["critical"] * 4

    def test_a_polite_poll_is_no_more_than_a_warning(self) -> None:
        assert [each[0] for each in run(ToolLoop(), events([CALL] * 19, gap_ms=30_000))] == ["warning"]
        endless = run(ToolLoop(), events([CALL] * 40, gap_ms=30_000))
        assert [each[0] for each in endless] == ["warning", "critical"]

    def test_the_same_call_between_real_work_is_at_most_a_warning(self) -> None:
        work = [{**CALL, "tool": "edit", "arguments_hash": f"edit{number}"} for number in range(60)]
        found = run(ToolLoop(), events([each for edit in work for each in (CALL, edit)]))
        assert {each[0] for each in found} == {"warning"}

    def test_the_same_question_from_a_user_may_be_answered_the_same(self) -> None:
        ask = {"type": "message", "agent": "user", "to_agent": "agent", "intent": "request"}
        asked = [each for number in range(7) for each in ({**ask, "content_hash": f"q{number}"}, CALL)]
        assert run(ToolLoop(), events(asked)) == []

    def test_a_result_that_is_not_known_is_not_called_the_same(self) -> None:
        blind = {name: value for name, value in CALL.items() if name != "result_hash"}
        assert [each[0] for each in run(ToolLoop(), events([blind] * 10))] == ["warning"]

    def test_two_agents_that_call_once_each_are_not_a_loop(self) -> None:
        assert run(ToolLoop(), events({**CALL, "agent": f"agent{number}"} for number in range(12))) == []


class TestPingPong:
    @pytest.mark.parametrize("agents", [2, 3, 4, 5, 6])
    def test_a_ring_of_up_to_six_is_found_within_twelve_messages(self, agents: int) -> None:
        ring = [
            {**ASK, "agent": f"agent{number}", "to_agent": f"agent{(number + 1) % agents}"}
            for number in range(agents)
        ]
        found = list(Engine([PingPong()], ()).run(events(ring * 6), finish=False))
        assert {one.agent for one in found} == {f"agent{number}" for number in range(agents)}
        assert all(one.suggested is not None and one.suggested.mode == "halt" for one in found)
        assert all(one.sample_size <= max(10, 2 * agents) for one in found)

    def test_the_clarification_loop_is_halted_within_ten_exchanges_among_four_agents(self) -> None:
        ask = {**ASK, "agent": "analyzer", "to_agent": "verifier"}
        back = {**ASK, "agent": "verifier", "to_agent": "analyzer"}
        other = {"type": "message", "agent": "planner", "to_agent": "writer", "intent": "delegate"}
        lines: Fields = []
        for number in range(10):
            lines += [LLM, {**ask, "content_hash": f"x{number}"}, LLM, {**back, "content_hash": f"y{number}"}]
            lines += [
                {**other, "content_hash": f"z{number}"},
                {**CALL, "agent": "writer", "result_hash": f"r{number}"},
            ]
        found = list(Engine([PingPong()], ()).run(events(lines), finish=False))
        assert [one.agent for one in found] == ["analyzer", "verifier"]
        assert found[0].sample_size == 8

    @pytest.mark.parametrize(
        "progress",
        [
            {"type": "message", "agent": "verifier", "to_agent": "agent", "intent": "answer"},
            {**CALL, "agent": "verifier"},
        ],
    )
    def test_progress_by_either_agent_clears_it(self, progress: dict[str, Any]) -> None:
        ask, back = ASK, {**ASK, "agent": "verifier", "to_agent": "agent"}
        rounds: Fields = []
        for number in range(12):
            rounds += [ask, back, ask, back]
            rounds.append({**progress, "result_hash": f"r{number}"})
        assert run(PingPong(), events(rounds)) == []

    def test_repeating_the_same_answer_is_not_progress(self) -> None:
        ask = {**ASK, "intent": "request", "content_hash": "q"}
        answer = {**ASK, "agent": "verifier", "to_agent": "agent", "intent": "answer", "content_hash": "a"}
        assert len(run(PingPong(), events([ask, answer] * 10))) == 2

    def test_new_requests_one_way_are_work(self) -> None:
        requests = [{**ASK, "intent": "delegate", "content_hash": f"q{number}"} for number in range(50)]
        assert run(PingPong(), events(requests)) == []


class TestRetryStorm:
    @pytest.mark.parametrize(
        "error_type", ["invalid_credentials", "AuthenticationError", "401", "PermissionDenied"]
    )
    def test_refused_credentials_are_stopped_at_the_third_try_whatever_the_arguments(
        self, error_type: str
    ) -> None:
        tries = [{**FAILED, "error_type": error_type, "arguments_hash": f"a{number}"} for number in range(9)]
        assert run(RetryStorm(), events(tries)) == [("critical", "e2", 3.0)]

    def test_hammering_a_rate_limit_is_throttled(self) -> None:
        limited = {**LLM, "status": "error", "error_type": "rate_limit_exceeded"}
        [found] = Engine([RetryStorm()], ()).run(events([limited] * 50, gap_ms=200), finish=False)
        assert found.suggested is not None
        assert (found.severity, found.suggested.mode, found.observed) == ("critical", "throttle", 5)

    def test_backing_off_is_right(self) -> None:
        limited = {**LLM, "status": "error", "error_type": "rate_limit_exceeded"}
        waits_ms = [0, 500, 1_000, 2_000, 4_000, 8_000, 16_000, 30_000, 30_000, 30_000]
        stream = [
            event.model_copy(
                update={
                    "time": event.time.fromtimestamp(sum(waits_ms[: number + 1]) / 1000, event.time.tzinfo)
                }
            )
            for number, event in enumerate(events([limited] * len(waits_ms)))
        ]
        assert run(RetryStorm(), stream) == []

    def test_other_failures_warn_first(self) -> None:
        failing = {**FAILED, "error_type": "ValueError"}
        assert run(RetryStorm(), events([failing] * 9)) == [("warning", "e2", 3.0), ("critical", "e5", 6.0)]
        tried = [{**failing, "arguments_hash": f"a{number}"} for number in range(9)]
        assert run(RetryStorm(), events(tried)) == []

    def test_success_ends_the_run(self) -> None:
        assert run(RetryStorm(), events([FAILED, FAILED, CALL] * 9)) == []

    def test_a_call_that_fails_again_after_it_worked_is_not_reported_again(self) -> None:
        again = [*[FAILED] * 9, CALL, *[FAILED] * 9]
        assert run(RetryStorm(), events(again)) == run(RetryStorm(), events([FAILED] * 9))


class TestBudget:
    def test_every_declared_cap_is_reported_once_to_each_agent_that_goes_on(self) -> None:
        start = {**START, "budget": {"tokens": 3_000, "steps": 4, "cost_usd": 0.35, "wall_ms": 5_500}}
        calls = [{**LLM, "cost_usd": 0.1, "agent": agent} for agent in "ab" for _ in range(6)]
        found = list(Engine([Budget()], ()).run(events([start, *calls]), finish=False))
        assert {(one.metric, one.agent) for one in found} == {
            (cap, agent) for cap in ("tokens", "steps", "cost_usd", "wall_ms") for agent in "ab"
        }
        assert {one.severity for one in found} == {"critical"}
        assert len(found) == 8

    def test_the_overshoot_is_one_call(self) -> None:
        [found] = Engine([Budget()], ()).run(
            events([{**START, "budget": {"tokens": 3_000}}, *[LLM] * 9]), finish=False
        )
        assert found.observed == 4_000
        assert found.evidence.event_ids == ["e4"]

    def test_a_session_that_hangs_passes_its_time_in_silence(self) -> None:
        stream = events([{**START, "budget": {"wall_ms": 60_000}}, LLM])
        assert [each[0] for each in run(Budget(), stream, finish=True)] == ["critical"]

    def test_default_caps_warn_once_and_unknown_cost_is_not_zero_cost(self) -> None:
        found = run(Budget(), events([{**LLM, "input_tokens": 9_000}] * 40))
        assert [each[0] for each in found] == ["warning", "warning"]
        assert run(Budget(), events([{**START, "budget": {"cost_usd": 0.0}}, *[LLM] * 9])) == []


class TestUndeclaredTool:
    def test_any_agent_s_declaration_counts_for_the_session(self) -> None:
        starts = [
            {**START, "declared_tools": ["search"]},
            {**START, "agent": "b", "declared_tools": ["read"]},
        ]
        calls = [{**CALL, "tool": "read"}, {**CALL, "tool": "drop"}, {**CALL, "tool": "drop"}]
        assert run(UndeclaredTool(), events([*starts, *calls])) == [("critical", "e3", 1.0)]

    def test_declaring_nothing_is_not_declaring_none(self) -> None:
        assert run(UndeclaredTool(), events([START, CALL])) == []
        assert len(run(UndeclaredTool(), events([{**START, "declared_tools": []}, CALL]))) == 1


class TestOrphanedSession:
    def test_it_carries_the_time_it_was_due(self) -> None:
        for later in ([], [{"type": "heartbeat", "session": "other"}] * 3_000):
            found = list(Engine([OrphanedSession()], ()).run(events([START, LLM, *later])))
            [mine] = [one for one in found if one.session == "session"]
            assert (mine.time - mine.onset).total_seconds() == 1_800
            assert mine.agent == "agent"

    def test_sessions_that_nobody_started_or_that_ended_are_not_orphans(self) -> None:
        assert run(OrphanedSession(), events([LLM]), finish=True) == []
        ended = [START, {"type": "session.end", "outcome": "abandoned"}]
        assert run(OrphanedSession(), events(ended), finish=True) == []

    @pytest.mark.parametrize(
        ("told_ms", "due_s"), [(2_500, 2.5), (0, 1.0), (1e12, 5 * 3_600.0), (None, 1_800.0)]
    )
    def test_a_session_says_how_long_it_may_be_silent(self, told_ms: float | None, due_s: float) -> None:
        start = {**START, "idle_timeout_ms": told_ms}
        [found] = Engine([OrphanedSession()], ()).run(events([start, LLM]))
        assert (found.time - found.onset).total_seconds() == due_s


class TestRefusalRate:
    def test_calls_that_do_not_say_are_unknown(self) -> None:
        healthy = [window(n, llm_calls=20, refusals_known=20, refusals=n % 2) for n in range(100)]
        silent = [window(n, llm_calls=2_000) for n in range(100, 200)]
        refusing = [window(n, llm_calls=20, refusals_known=20, refusals=3) for n in range(200, 215)]
        [found] = run_windows(RefusalRate(), [*healthy, *silent, *refusing])
        assert found.suggested is not None
        assert (found.severity, found.suggested.mode, found.suggested.ladder) == (
            "critical",
            "degrade",
            "static",
        )
        assert found.onset.timestamp() * 1000 >= window(195).start_ms

    def test_a_rise_is_reported_once_and_never_becomes_normal(self) -> None:
        healthy = [window(n, refusals_known=20, refusals=n % 2) for n in range(100)]
        refusing = [window(n, refusals_known=20, refusals=4) for n in range(100, 400)]
        again = [window(n, refusals_known=20, refusals=n % 2) for n in range(400, 500)]
        twice = [window(n, refusals_known=20, refusals=4) for n in range(500, 600)]
        assert [one.severity for one in run_windows(RefusalRate(), [*healthy, *refusing])] == ["critical"]
        found = run_windows(RefusalRate(), [*healthy, *refusing, *again, *twice])
        assert [one.severity for one in found if one.severity == "critical"] == ["critical"] * 2
        assert found[-1].expected == pytest.approx(0.025, abs=0.005)

    def test_before_there_is_a_reference_it_cannot_tell(self) -> None:
        assert run_windows(RefusalRate(), [window(n, refusals_known=20, refusals=10) for n in range(4)]) == []


class TestTelemetryGap:
    @staticmethod
    def windows(*spans: SequenceSpan) -> list[Any]:
        return [window(number, processes={"p": span}) for number, span in enumerate(spans)]

    def test_a_late_event_fills_its_hole(self) -> None:
        spans = [
            SequenceSpan(9, 0, 9),
            SequenceSpan(11, 4, 19),
            SequenceSpan(10, 20, 29),
            SequenceSpan(10, 30, 39),
        ]
        assert run_windows(TelemetryGap(), self.windows(*spans)) == []

    def test_a_hole_that_stays_is_a_loss(self) -> None:
        spans = [SequenceSpan(10 - (turn == 2) * 5, 10 * turn, 10 * turn + 9) for turn in range(9)]
        [found] = run_windows(TelemetryGap(), self.windows(*spans))
        assert found.observed == 5

    def test_losses_of_more_processes_than_are_kept_that_speak_in_turns(self) -> None:
        windows = []
        for turn in range(40):
            speaking = [f"pod-{n}" for n in range(90) if n % 3 == turn % 3]
            first = 10 * (turn // 3)
            span = SequenceSpan(10 - 4 * (turn // 3 == 4), first, first + 9)
            windows.append(window(turn, processes=dict.fromkeys(speaking, span)))
        found = run_windows(TelemetryGap(), windows)
        assert len(found) >= 20
        assert {one.observed for one in found} == {4}

    def test_counting_anew_is_not_a_loss(self) -> None:
        spans = [SequenceSpan(10, 10 * (turn % 4), 10 * (turn % 4) + 9) for turn in range(12)]
        assert run_windows(TelemetryGap(), self.windows(*spans)) == []
