"""What comes of calls: approved, allowed, confirmed, and no more of it than was meant."""

from __future__ import annotations

from typing import Any, ClassVar

import pytest

from detectors.offline import Engine
from detectors.session.fan_out import FanOut
from detectors.session.goal_violation import GoalViolation
from detectors.session.unapproved_action import UnapprovedAction, is_irreversible
from detectors.session.unconfirmed_effect import UnconfirmedEffect
from detectors.testing import event, events, run

CALL = {"type": "tool.call", "tool": "t", "arguments_hash": "a", "status": "ok"}
MAIL = {**CALL, "tool": "mail", "effect": "email.send"}
END = {"type": "session.end", "outcome": "completed"}


def denied(why: str, tool: str = "t") -> dict[str, Any]:
    return {"type": "heartbeat", "attributes": {"watchkeeper.denied": why, "watchkeeper.tool": tool}}


def effect(number: int, *, confirmed: bool) -> dict[str, Any]:
    return {"type": "effect", "ref": f"e{number}", "confirmed": confirmed}


class TestUnapprovedAction:
    @pytest.mark.parametrize("what", ["db.delete", "schema.column.drop", "backups.purge", "users/delete_all"])
    def test_what_holds_other_peoples_data_cannot_be_deleted_back(self, what: str) -> None:
        assert is_irreversible(None, what)
        assert not is_irreversible(False, what)

    @pytest.mark.parametrize(
        "what", ["file.delete", "email.send", "db.read", "cart.delete", "column.add", None]
    )
    def test_ordinary_work_is_not_judged_unless_it_says_so(self, what: str | None) -> None:
        assert not is_irreversible(None, what)
        assert is_irreversible(True, what)

    def test_a_denied_or_failed_try_is_how_an_agent_learns_to_ask(self) -> None:
        asked = {**CALL, "irreversible": True, "approval": "p1"}
        assert run(UnapprovedAction(), events([denied("irreversible"), asked])) == [("warning", "e0", 1.0)]
        failed = {**CALL, "irreversible": True, "status": "error"}
        assert [each[0] for each in run(UnapprovedAction(), events([failed] * 9))] == ["warning", "critical"]
        assert run(UnapprovedAction(), events([denied("halt"), denied("budget")])) == []


class TestGoalViolation:
    START: ClassVar[dict[str, Any]] = {
        "type": "session.start",
        "goal": "g",
        "allowed_effects": ["report.*", "file.read"],
    }

    def test_a_family_or_a_name_is_allowed_and_nothing_declared_allows_all(self) -> None:
        good = [{**CALL, "effect": what} for what in ("report.write", "report.send", "file.read")]
        assert run(GoalViolation(), events([self.START, *good, CALL])) == []
        assert run(GoalViolation(), events([{"type": "session.start"}, MAIL])) == []
        none = {**self.START, "allowed_effects": []}
        assert [each[0] for each in run(GoalViolation(), events([none, MAIL]))] == ["critical"]

    def test_each_agent_brings_its_own_effects_but_none_adds_to_its_own(self) -> None:
        helper = {**self.START, "agent": "helper", "goal": "h", "allowed_effects": ["email.send"]}
        assert run(GoalViolation(), events([self.START, helper, MAIL])) == []
        wider = {**self.START, "allowed_effects": ["report.*", "email.send"]}
        found = run(GoalViolation(), events([self.START, wider, MAIL]))
        assert [each[:2] for each in found] == [("warning", "e1"), ("critical", "e2")]

    def test_a_goal_changes_when_somebody_asks_for_another(self) -> None:
        other = {**self.START, "goal": "g2"}
        for intent, times in (("request", 0), ("delegate", 0), ("answer", 0), ("clarification", 1)):
            ask = {"type": "message", "agent": "user", "to_agent": "agent", "intent": intent}
            assert len(run(GoalViolation(), events([self.START, ask, other]))) == times

    def test_told_once_however_often_it_drifts(self) -> None:
        drift = [{**self.START, "goal": f"g{number}"} for number in range(20)]
        assert run(GoalViolation(), events([self.START, *drift])) == [("warning", "e1", 1.0)]


class TestUnconfirmedEffect:
    UP: ClassVar[dict[str, Any]] = {**CALL, "effect": "vm.create"}

    def test_a_denial_that_the_agent_makes_good_or_owns_up_to_is_not_critical(self) -> None:
        again = [self.UP, effect(0, confirmed=False), self.UP, effect(2, confirmed=True), END]
        assert [each[0] for each in run(UnconfirmedEffect(), events(again))] == ["warning"]
        owned = [self.UP, effect(0, confirmed=False), {**END, "outcome": "failed"}]
        assert [each[0] for each in run(UnconfirmedEffect(), events(owned))] == ["warning"]

    def test_a_denial_after_the_end_is_critical_at_once(self) -> None:
        found = run(UnconfirmedEffect(), events([self.UP, END, effect(0, confirmed=False)]))
        assert found == [("critical", "e2", 2_000.0)]

    def test_nothing_is_expected_where_nobody_ever_confirms(self) -> None:
        assert run(UnconfirmedEffect(), events([self.UP] * 5 + [END]), finish=True) == []
        always = UnconfirmedEffect(expected=frozenset({"vm.create"}))
        assert run(always, events([self.UP, END]), finish=True) == [("critical", "e0", 300_000.0)]

    def test_what_is_confirmed_in_time_or_before_its_call_is_seen_is_fine(self) -> None:
        early = [effect(1, confirmed=True), self.UP, self.UP, effect(2, confirmed=True), END]
        assert run(UnconfirmedEffect(), events(early), finish=True) == []

    def test_silence_is_of_the_time_it_was_due_whenever_it_is_noticed(self) -> None:
        stream = [*events([self.UP, effect(0, confirmed=True), self.UP])]
        for later in (400, 4_000):
            (found,) = Engine([UnconfirmedEffect()], ()).run(
                [*stream, event(later, {"type": "heartbeat", "session": "other"})], finish=False
            )
            assert (found.severity, found.time) == ("warning", event(302, {"type": "heartbeat"}).time)


class TestFanOut:
    CAP: ClassVar[dict[str, Any]] = {"type": "session.start", "budget": {"fan_out": {"email.send": 3}}}

    def test_a_declared_cap_may_be_reached_and_not_passed(self) -> None:
        assert run(FanOut(), events([self.CAP, *[MAIL] * 3])) == []
        assert run(FanOut(), events([self.CAP, *[MAIL] * 9])) == [("critical", "e4", 4.0)]
        wide = {"type": "session.start", "budget": {"fan_out": {"email.send": 500}}}
        assert run(FanOut(), events([wide, {**MAIL, "targets": 400}])) == []

    def test_one_call_to_all_users_is_found_on_that_call(self) -> None:
        assert run(FanOut(), events([{**MAIL, "targets": 10_000}])) == [("critical", "e0", 10_000.0)]

    def test_what_does_not_go_out_or_was_approved_or_failed_is_not_counted(self) -> None:
        for fine in (
            {**CALL, "effect": "rows.read", "targets": 10_000},
            {**MAIL, "targets": 500, "approval": "p1"},
            {**MAIL, "status": "error", "targets": 10_000},
        ):
            assert run(FanOut(), events([fine])) == []

    def test_a_call_denied_for_its_cap_is_a_warning(self) -> None:
        cap = {"type": "session.start", "budget": {"fan_out": {"mail": 3}}}
        assert run(FanOut(), events([cap, denied("budget", "mail")])) == [("warning", "e1", 0.0)]
        assert run(FanOut(), events([denied("budget", "mail"), cap, denied("halt", "mail")])) == []

    def test_after_a_failure_fewer_may_go_out_for_a_while(self) -> None:
        failed = {**MAIL, "status": "error"}
        assert [each[1] for each in run(FanOut(), events([failed, *[MAIL] * 30]))] == ["e11"]
        later = [event(0, failed), *(event(2_000 + number, MAIL) for number in range(15))]
        assert run(FanOut(), later) == []
