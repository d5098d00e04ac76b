"""Arguments and results: the contract a tool declares or has kept so far, and what healthy tools do."""

from __future__ import annotations

from typing import Any

from detectors.offline import Engine
from detectors.profile import AgentProfile, ToolProfile
from detectors.session.bad_arguments import MAX_NAMES, BadArguments
from detectors.session.result_contract import ResultContract
from detectors.session.truncation import Truncation
from detectors.testing import events, run

CALL = {"type": "tool.call", "tool": "t", "arguments_hash": "a", "result_hash": "r", "status": "ok"}
CUT = {
    "type": "llm.call",
    "request_model": "m",
    "input_tokens": 9,
    "output_tokens": 4_096,
    "finish_reasons": ["max_tokens"],
    "status": "ok",
}


def start(**schemas: Any) -> dict[str, Any]:
    return {"type": "session.start", "tool_schemas": schemas}


def keys(*names: str, **more: Any) -> dict[str, Any]:
    return {**CALL, "argument_keys": list(names), **more}


def profile(**tool: Any) -> AgentProfile:
    return AgentProfile(
        tenant="default", agent="agent", sessions=200, tools={"t": ToolProfile(sessions=200, **tool)}
    )


class TestBadArguments:
    def test_what_a_tool_takes_is_not_judged_beyond_what_it_declares(self) -> None:
        schema = {"required": ["id"], "properties": ["id", "note"]}
        good = [keys("id"), keys("id", "note"), CALL, keys("x", tool="undeclared")]
        assert run(BadArguments(), events([start(t=schema), *good])) == []
        assert run(BadArguments(), events([start(t={"required": ["id"]}), keys("id", "anything")])) == []
        assert run(BadArguments(), events([keys("x")])) == []

    def test_a_call_that_the_tool_refused_is_a_warning_and_one_that_it_took_critical(self) -> None:
        stream = [start(t={"required": ["id"]}), keys(status="error"), keys(), keys()]
        assert [each[:2] for each in run(BadArguments(), events(stream))] == [
            ("warning", "e1"),
            ("critical", "e2"),
        ]

    def test_it_says_how_much_is_missing_and_what_is_unknown(self) -> None:
        schema = {"required": ["id", "sum"], "properties": ["id", "sum"]}
        stream = events([start(t=schema), keys("id", "sun")])
        (found,) = Engine([BadArguments()], ()).run(stream, finish=False)
        assert "without 1 it needs and with sun, which it does not take" in found.summary

    def test_a_later_declaration_counts_and_one_too_large_is_not_judged(self) -> None:
        later = [start(t={"required": ["id"]}), start(t={"required": ["name"]}), keys("name")]
        assert run(BadArguments(), events(later)) == []
        large = {"required": [f"n{number}" for number in range(MAX_NAMES + 1)]}
        assert run(BadArguments(), events([start(t=large), keys()])) == []
        again = [start(t={"required": ["id"]})] * (2 * MAX_NAMES)
        assert [each[0] for each in run(BadArguments(), events([*again, keys()]))] == ["critical"]

    def test_a_name_never_given_in_healthy_sessions_is_a_warning(self) -> None:
        known = {"keyed_calls": 900, "keys": ["id", "note"], "required": ["id"]}
        assert run(BadArguments(), events([keys("note")]), profile=profile(**known)) == []
        found = run(BadArguments(), events([keys("id", "path")]), profile=profile(**known))
        assert found == [("warning", "e0", 1.0)]

    def test_what_is_learned_is_used_only_where_it_is_enough(self) -> None:
        for less in ({"open": True}, {"keyed_calls": 99}, {"keys": [f"n{number}" for number in range(300)]}):
            known = {"keyed_calls": 900, "keys": ["id"], **less}
            assert run(BadArguments(), events([keys("path")]), profile=profile(**known)) == []


class TestResultContract:
    GOOD = "{client:string,day:string,sum:number}"
    BAD = "{client:string,date:string,sum:string}"

    def test_the_first_changed_report_is_found_by_what_healthy_sessions_had(self) -> None:
        known = profile(calls=30, shapes={self.GOOD: 30})
        stream = events([{**CALL, "result_shape": self.GOOD}, {**CALL, "result_shape": self.BAD}])
        engine = Engine([ResultContract()], ())
        engine.profiles.take(known.key, known.encode())
        (found,) = engine.run(stream, finish=False)
        assert (found.severity, found.evidence.event_ids) == ("warning", ["e1"])
        assert "added date; removed day; retyped sum" in found.summary

    def test_more_columns_are_information(self) -> None:
        more = {**CALL, "result_shape": self.GOOD.replace("}", ",tax:number}")}
        found = run(ResultContract(), events([more]), profile=profile(shapes={self.GOOD: 30}))
        assert found == [("info", "e0", 1.0)]

    def test_a_tool_of_ever_new_forms_is_not_judged(self) -> None:
        forms = {f"{{k{number}:number}}": 1 for number in range(30)}
        bad = [{**CALL, "result_shape": self.BAD}]
        assert run(ResultContract(), events(bad), profile=profile(shapes=forms)) == []
        assert run(ResultContract(), events(bad), profile=profile(shapes={self.GOOD: 5})) == []
        assert run(ResultContract(), events(bad), profile=profile(shapes={self.GOOD: 99}, open=True)) == []
        mixed = [{**CALL, "result_shape": f"{{k{number % 3}:number}}"} for number in range(40)]
        assert run(ResultContract(), events([*mixed, *bad])) == []

    def test_a_form_that_healthy_sessions_had_is_no_change(self) -> None:
        known = profile(shapes={self.GOOD: 20, self.BAD: 3})
        stream = [{**CALL, "result_shape": shape} for shape in (*[self.GOOD] * 12, self.BAD)]
        assert run(ResultContract(), events(stream), profile=known) == []

    def test_hits_without_documents_are_a_warning_unless_that_is_usual(self) -> None:
        hollow = [{**CALL, "result_items": 0, "result_total": 7}]
        assert run(ResultContract(), events(hollow)) == [("warning", "e0", 1.0)]
        usual = profile(calls=90, counted_calls=90, hollow_calls=9, empty_calls=9)
        assert run(ResultContract(), events(hollow), profile=usual) == []
        nothing = [{**CALL, "result_items": 0, "result_total": 0}]
        assert run(ResultContract(), events(nothing * 9)) == []

    def test_an_index_that_scores_and_returns_nothing_is_found(self) -> None:
        read = {"type": "retrieval", "index": "docs", "documents": 0, "top_score": 0.7}
        assert run(ResultContract(), events([read])) == [("warning", "e0", 1.0)]
        assert run(ResultContract(), events([{**read, "top_score": None}])) == []

    def test_an_agent_that_looks_for_what_is_not_there_is_let_be(self) -> None:
        def search(number: int, items: int) -> dict[str, Any]:
            return {**CALL, "arguments_hash": f"a{number}", "result_items": items}

        mixed = [search(number, number % 3) for number in range(60)]
        assert run(ResultContract(), events([*mixed, *(search(100 + n, 0) for n in range(5))])) == []
        same = [*(search(number, 4) for number in range(20)), *[search(99, 0)] * 20]
        assert run(ResultContract(), events(same)) == []
        expired = [search(number, 4 if number < 20 else 0) for number in range(30)]
        assert [each[0] for each in run(ResultContract(), events(expired))] == ["warning"]

    def test_a_failed_call_has_no_contract(self) -> None:
        failed = {**CALL, "status": "error", "result_items": 0, "result_total": 9}
        assert run(ResultContract(), events([failed] * 5)) == []


class TestTruncation:
    def test_one_long_answer_in_many_is_ordinary(self) -> None:
        fine = {**CUT, "finish_reasons": ["stop"]}
        assert run(Truncation(), events([CUT, *[fine] * 20, CUT])) == []
        rare = [each for _ in range(5) for each in (CUT, *[fine] * 9)]
        assert run(Truncation(), events(rare))[1:] == []

    def test_another_agents_call_does_not_come_out_of_it_nor_one_after_a_whole_answer(self) -> None:
        other, whole = {**CALL, "agent": "other"}, {**CUT, "finish_reasons": ["tool_calls"]}
        assert run(Truncation(), events([CUT, other, whole, CALL])) == []

    def test_a_label_is_short_on_purpose(self) -> None:
        assert run(Truncation(), events([{**CUT, "output_tokens": 5}, CALL] * 9)) == []
