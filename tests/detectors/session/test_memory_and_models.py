"""Whose memory, how old, and which model: what a session may expect to be given."""

from __future__ import annotations

from typing import Any

import pytest

from detectors.profile import AgentProfile
from detectors.session.foreign_memory import ForeignMemory
from detectors.session.model_mismatch import ModelMismatch, family
from detectors.session.stale_memory import StaleMemory
from detectors.testing import START_MS, event, events, run
from schemas.base import from_epoch_ms

READ = {"type": "retrieval", "index": "memory", "documents": 1, "owner": "u1"}
LLM = {"type": "llm.call", "input_tokens": 9, "output_tokens": 9, "status": "ok"}


def as_of(seconds: float, **more: Any) -> dict[str, Any]:
    return {**READ, "as_of": from_epoch_ms(START_MS + seconds * 1_000).isoformat(), **more}


def answered(asked: str, *answers: str, **more: Any) -> list[dict[str, Any]]:
    return [{**LLM, "request_model": asked, "response_model": answer, **more} for answer in answers]


class TestForeignMemory:
    def test_a_session_of_two_users_may_read_of_both_and_of_nobody_else(self) -> None:
        starts = [{"type": "session.start", "user": user} for user in ("u1", "u2")]
        fine = [
            READ,
            {**READ, "owner": "u2"},
            {**READ, "owner": None},
            {**READ, "owner": "u3", "documents": 0},
        ]
        assert run(ForeignMemory(), events([*starts, *fine])) == []
        assert run(ForeignMemory(), events([*starts, {**READ, "owner": "u3"}])) == [("critical", "e2", 1.0)]

    def test_without_a_user_nothing_is_foreign(self) -> None:
        assert run(ForeignMemory(), events([{"type": "session.start"}, READ])) == []


class TestStaleMemory:
    def test_a_version_that_goes_back_is_stale_and_a_hash_has_no_order(self) -> None:
        back = [{**READ, "index_version": version} for version in ("v2", "v10", "v9")]
        assert run(StaleMemory(), events(back)) == [("warning", "e2", 1.0)]
        hashes = [{**READ, "index_version": version} for version in ("9f3c", "0a1b", "1.2", "1.2.3", "7")]
        assert run(StaleMemory(), events(hashes)) == []

    def test_the_same_owners_memory_does_not_get_older(self) -> None:
        assert run(StaleMemory(), events([as_of(5), as_of(9), as_of(8.5), as_of(9)])) == []
        assert run(StaleMemory(), events([as_of(9), as_of(1)])) == [("warning", "e1", 8_000.0)]

    def test_documents_have_dates_of_their_own(self) -> None:
        assert run(StaleMemory(), events([as_of(9, owner=None), as_of(1, owner=None)])) == []
        assert run(StaleMemory(), events([as_of(9), as_of(1, index="docs"), as_of(1, owner="u2")])) == []

    def test_what_was_written_is_read_once_the_index_had_time(self) -> None:
        write = {"type": "tool.call", "tool": "t", "arguments_hash": "a", "status": "ok"}
        write |= {"effect": "memory.update"}
        assert run(StaleMemory(), [event(0, write), event(30, as_of(-60))]) == []
        assert run(StaleMemory(), [event(0, write), event(90, as_of(-60))]) == [("warning", "e90", 60_000.0)]
        assert run(StaleMemory(), [event(0, write), event(90, as_of(1))]) == []
        assert run(StaleMemory(), [event(0, {**write, "status": "error"}), event(90, as_of(-60))]) == []


class TestModelMismatch:
    @pytest.mark.parametrize(
        ("asked", "answer"),
        [
            ("gpt-4o", "gpt-4o-2024-08-06"),
            ("openai/gpt-4o", "gpt-4o-2024-08-06"),
            ("claude-3-5-sonnet-latest", "claude-3-5-sonnet-20241022"),
            ("us.anthropic.claude-sonnet-4-20250514-v1:0", "claude-sonnet-4-20250514"),
            ("gpt-4-turbo-preview", "gpt-4-0125-preview"),
            ("claude-sonnet-4-0", "claude-sonnet-4-20250514"),
            ("models/gemini-1.5-pro", "gemini-1.5-pro-002"),
            ("our-deployment", "gpt-4o-2024-08-06"),
            ("mistral-large-latest", "mistral-large-2407"),
        ],
    )
    def test_a_snapshot_of_what_was_asked_for_is_what_was_asked_for(self, asked: str, answer: str) -> None:
        assert run(ModelMismatch(), events(answered(asked, answer, answer))) == []

    @pytest.mark.parametrize(
        ("asked", "answer"),
        [
            ("gpt-4o", "gpt-4o-mini-2024-07-18"),
            ("gpt-4", "gpt-3.5-turbo-0125"),
            ("claude-opus-4-1", "claude-3-haiku-20240307"),
            ("gpt-4o-2024-05-13", "gpt-4o-2024-08-06"),
        ],
    )
    def test_another_model_is_told_once(self, asked: str, answer: str) -> None:
        assert run(ModelMismatch(), events(answered(asked, answer, answer))) == [("warning", "e0", 1.0)]

    def test_a_deployment_may_have_any_name(self) -> None:
        assert run(ModelMismatch(), events(answered("gpt-4", "gpt-4o-2024-08-06", provider="azure"))) == []
        assert run(ModelMismatch(), events(answered("router", "gpt-4o", "claude-3-5-haiku", "gpt-4o"))) == []

    def test_what_never_answered_before_is_news(self) -> None:
        known = AgentProfile(
            tenant="default", agent="agent", sessions=99, models={"router": ["gpt-4o-2024-08-06"]}
        )
        stream = answered("router", "gpt-4o-2024-08-06", "gpt-4o-2024-11-20")
        assert run(ModelMismatch(), events(stream), profile=known) == [("warning", "e1", 1.0)]

    def test_a_name_is_a_family_and_a_snapshot(self) -> None:
        assert family("gpt-4-1106-preview") == ("gpt-4", "1106")
        assert family("o1-2024-12-17") == ("o1", "20241217")
        assert family("gpt-4.1") == ("gpt-4.1", "")
