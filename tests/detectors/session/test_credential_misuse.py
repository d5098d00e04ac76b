"""credential_misuse: nine seconds, scans for a key that fits, and what healthy agents do with credentials."""

from __future__ import annotations

from typing import Any

import pytest

from detectors.offline import Engine
from detectors.profile import AgentProfile
from detectors.session.credential_misuse import CredentialMisuse
from detectors.summary import credential_hash
from detectors.testing import brief, event, events, run

START = {"type": "session.start", "credential": "own", "scopes": ["db:read"]}
CALL = {"type": "tool.call", "tool": "db", "arguments_hash": "a", "status": "ok", "credential": "own"}
REFUSED = {**CALL, "status": "error", "error_type": "403 forbidden"}


def profile(**fields: Any) -> AgentProfile:
    """Of thirty healthy sessions with one credential and one scope."""
    known = {"credentials": [credential_hash("own")], "scopes": ["db:read"]}
    return AgentProfile(tenant="default", agent="agent", sessions=30, **{**known, **fields})


def found(fields: list[dict[str, Any]], **known: Any) -> list[tuple[str, str, float]]:
    return run(CredentialMisuse(), events(fields), **known)


class TestForeignCredential:
    def test_the_first_use_is_found_and_halted(self) -> None:
        foreign = {**CALL, "credential": "root"}
        [one] = Engine([CredentialMisuse()], ()).run(events([START, CALL, foreign, CALL, foreign, foreign]))
        assert (one.severity, one.evidence.event_ids) == ("critical", ["e2"])
        assert one.suggested is not None
        assert one.suggested.mode == "halt"
        assert "root" not in one.model_dump_json().replace("foreign", "")

    def test_what_any_agent_of_the_session_declared_is_the_sessions(self) -> None:
        second = {**START, "agent": "helper", "credential": "helpers"}
        assert found([START, second, {**CALL, "credential": "helpers"}, {**CALL, "agent": "helper"}]) == []

    def test_what_healthy_history_knows_is_the_agents(self) -> None:
        known = profile(credentials=[credential_hash("own"), credential_hash("database")])
        calls = [START, {**CALL, "credential": "database"}]
        assert found(calls, profile=known) == []
        assert [each[0] for each in found(calls)] == ["critical"]

    def test_each_is_reported_once_a_session_and_not_without_end(self) -> None:
        many = [{**CALL, "credential": f"key{number}"} for number in range(200)]
        assert 8 <= len(found([START, *many, *many])) <= 16


class TestScan:
    def test_a_second_new_credential_after_a_refusal_is_a_scan(self) -> None:
        tries = [{**REFUSED, "credential": f"key{number}"} for number in range(9)]
        assert found([REFUSED, *tries]) == [("critical", "e2", 2.0)]

    def test_a_renewed_token_is_not(self) -> None:
        renewed = {**CALL, "credential": "own-2"}
        assert found([CALL, REFUSED, renewed, renewed, CALL]) == []

    def test_several_credentials_for_several_tools_are_not(self) -> None:
        assert found([{**CALL, "tool": name, "credential": name} for name in "abcdef"]) == []

    def test_a_refusal_counts_for_the_agent_that_got_it(self) -> None:
        others = [{**CALL, "agent": "other", "credential": f"key{number}"} for number in range(5)]
        assert found([REFUSED, *others]) == []


class TestHistory:
    def test_a_credential_never_used_before_is_a_warning(self) -> None:
        assert found([{**CALL, "credential": "new"}], profile=profile()) == [("warning", "e0", 1.0)]

    def test_a_scope_never_used_before_is_a_warning(self) -> None:
        assert found([{**CALL, "scope": "db:admin"}] * 3, profile=profile()) == [("warning", "e0", 1.0)]
        assert found([{**CALL, "scope": "db:read"}], profile=profile()) == []

    def test_a_scope_the_session_did_not_ask_for_is_a_warning(self) -> None:
        assert found([START, {**CALL, "scope": "db:admin"}]) == [("warning", "e1", 1.0)]
        assert found([START, {**CALL, "scope": "db:read"}]) == []

    @pytest.mark.parametrize(
        "known",
        [
            profile(open=True),
            profile(credentials=[credential_hash(f"key{n}") for n in range(30)], scopes=list("abcdefghijk")),
            profile(credentials=[], scopes=[]),
        ],
        ids=["not all was kept", "new ones every session", "nothing known"],
    )
    def test_novelty_means_nothing_where_it_is_usual(self, known: AgentProfile) -> None:
        assert found([{**CALL, "credential": "new", "scope": "new"}], profile=known) == []

    def test_what_was_learned_in_health_is_known_later(self) -> None:
        engine = Engine([CredentialMisuse()], ())
        stream = []
        for number in range(8):
            credential = "own" if number < 7 else "stolen"
            for each in ({"type": "session.start"}, {**CALL, "credential": credential}, END):
                count = len(stream)
                stream.append(event(count, {**each, "session": f"s{number}"}))
        assert [each[0] for each in brief(engine.run(stream))] == ["warning"]

    def test_a_renewed_credential_is_new_only_at_first(self) -> None:
        engine = Engine([CredentialMisuse()], ())
        stream = []
        for number in range(60):
            credential = "own" if number < 20 else "own-2"
            for each in ({"type": "session.start"}, {**CALL, "credential": credential}, END):
                fields = {**each, "session": f"s{number}"}
                stream.append(event(len(stream), fields, gap_ms=20_000))
        assert [each[0] for each in brief(engine.run(stream))] == ["warning"]


END = {"type": "session.end", "outcome": "completed"}
