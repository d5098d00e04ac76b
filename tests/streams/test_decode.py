"""Decoding of agent.events: one event or one dead letter each, whatever the bytes."""

from __future__ import annotations

import base64
import json
import os
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from schemas.base import MAX_MESSAGE_BYTES, epoch_ms
from schemas.dead_letter import DeadLetter
from streams.decode import decode

EXAMPLES = int(os.environ.get("WATCHKEEPER_DECODE_EXAMPLES", "150"))
"""`make reliability` sets 10,000 (split over the tests below)."""

EVENT: dict[str, Any] = {
    "schema": "agent.event/1",
    "event_id": "e-1",
    "type": "llm.call",
    "time": "2026-03-01T12:00:00Z",
    "agent": "support",
    "session": "s-1",
    "request_model": "gpt-4o",
    "input_tokens": 10,
    "output_tokens": 5,
    "status": "ok",
}
NOON_MS = 1_772_366_400_000
HOUR_MS = 3_600_000


def encoded(**changes: Any) -> bytes:
    return json.dumps({**EVENT, **changes}).encode()


def read(value: bytes | None, broker_time_ms: float | None = None) -> list[Any]:
    return list(decode(value, "agent.events", 3, 17, broker_time_ms))


def reasons(value: bytes | None, broker_time_ms: float | None = None) -> list[str]:
    return [
        item.reason if isinstance(item, DeadLetter) else item.event_id for item in read(value, broker_time_ms)
    ]


def detail(value: bytes | None) -> str:
    (only,) = read(value)
    assert isinstance(only, DeadLetter)
    return only.detail


def nested(depth: int) -> Any:
    value: Any = 1
    for _ in range(depth):
        value = [value]
    return value


class TestTaken:
    def test_an_event_becomes_its_model(self) -> None:
        (event,) = read(encoded(cost_usd=0.5, attributes={"lang": "en", "vip": True}))
        assert event.type == "llm.call"
        assert (event.cost_usd, event.attributes) == (0.5, {"lang": "en", "vip": True})
        assert epoch_ms(event.time) == NOON_MS

    def test_an_array_gives_its_events_in_order(self) -> None:
        events = [{**EVENT, "event_id": f"e-{n}"} for n in range(1_000)]
        assert reasons(json.dumps(events).encode()) == [f"e-{n}" for n in range(1_000)]

    def test_unknown_fields_are_dropped(self) -> None:
        (event,) = read(encoded(prompt="my secret", extra={"deep": [1, {"x": "y"}]}))
        assert "secret" not in repr(event)

    @pytest.mark.parametrize(
        ("change", "cost_usd"),
        [
            ({}, 10 * 2.5e-6 + 5 * 10e-6),
            ({"cost_usd": None}, 10 * 2.5e-6 + 5 * 10e-6),
            ({"cost_usd": 0.0}, 0.0),
            ({"cost_usd": 7.5}, 7.5),
            ({"request_model": "no-such-model"}, None),
            ({"provider": "no-such-provider"}, None),
            ({"response_model": "no-such-model"}, None),
            ({"request_model": "m" * 256, "provider": "p" * 256}, None),
        ],
    )
    def test_a_cost_that_is_not_said_is_priced_and_else_unknown(
        self, change: dict[str, Any], cost_usd: float | None
    ) -> None:
        (event,) = read(encoded(**change))
        assert event.type == "llm.call"
        assert event.cost_usd == (cost_usd if cost_usd is None else pytest.approx(cost_usd))

    @pytest.mark.parametrize(
        "time",
        [
            "2026-03-01T12:00:00.000Z",
            "2026-03-01T14:00:00+02:00",
            "2026-03-01t12:00:00z",
            "2026-03-01 12:00:00Z",
            "2026-03-01T12:00:00.000000000Z",
        ],
    )
    def test_rfc_3339_in_its_forms_is_kept_in_utc(self, time: str) -> None:
        (event,) = read(encoded(time=time))
        assert event.type == "llm.call"
        assert epoch_ms(event.time) == NOON_MS
        assert event.time.utcoffset() is not None
        assert event.time.isoformat().endswith("+00:00")

    def test_a_whole_float_is_an_integer_as_in_json_schema(self) -> None:
        (event,) = read(encoded(input_tokens=10.0))
        assert event.type == "llm.call"
        assert event.input_tokens == 10

    @pytest.mark.parametrize("indent", [None, 2])
    def test_white_space_and_quotes_in_text_are_no_duplicate_keys(self, indent: int | None) -> None:
        event = {**EVENT, "attributes": {'a":': '"b": 1, "b": 2', "c": '\\" : '}}
        assert reasons(json.dumps(event, indent=indent, separators=(" , ", " : ")).encode()) == ["e-1"]

    def test_thirty_two_levels_pass(self) -> None:
        assert reasons(encoded(extra=nested(31))) == ["e-1"]

    def test_brackets_in_text_are_not_nesting(self) -> None:
        assert reasons(encoded(attributes={"art": "[" * 200})) == ["e-1"]


class TestRefused:
    @pytest.mark.parametrize(
        ("value", "reason"),
        [
            (None, "malformed"),
            (b"", "malformed"),
            (b" ", "malformed"),
            (b"\xef\xbb\xbf" + encoded(), "malformed"),
            (b"\xff\xfe", "malformed"),
            (b"\x00", "malformed"),
            (encoded()[:-1], "malformed"),
            (encoded() + b"{}", "malformed"),
            (b'"' + b"\xed\xa0\x80" + b'"', "malformed"),
            (b'{"schema": "agent.event/1", "agent": "\\ud800"}', "malformed"),
            (b"nul", "malformed"),
            (b"3", "invalid"),
            (b"null", "invalid"),
            (b'"text"', "invalid"),
            (b"[]", "invalid"),
            (encoded(agent="a\x00b"), "invalid"),
            (encoded() + b" " * MAX_MESSAGE_BYTES, "too_large"),
            (b"[" * 100_000, "too_deep"),
            (encoded(extra=nested(32)), "too_deep"),
            (encoded().replace(b"10,", b"NaN,"), "not_finite"),
            (encoded().replace(b"10,", b"-Infinity,"), "not_finite"),
            (encoded().replace(b"10,", b"1e999,"), "not_finite"),
            (encoded(extra=1).replace(b'"extra": 1', b'"extra": -1e999'), "not_finite"),
            (b"9" * 5_000, "not_finite"),
            (encoded(input_tokens=2**53), "invalid"),
            (encoded(input_tokens=10**30), "invalid"),
            (encoded(input_tokens=-1), "invalid"),
            (encoded(input_tokens=1.5), "invalid"),
            (encoded(input_tokens="10"), "invalid"),
            (encoded(input_tokens=True), "invalid"),
            (encoded(cost_usd=-0.1), "invalid"),
            (encoded(confidence=1.1), "invalid"),
            (encoded(refusal=1), "invalid"),
            (encoded(agent=""), "invalid"),
            (encoded(agent="x" * 257), "invalid"),
            (encoded(attributes={str(n): n for n in range(33)}), "invalid"),
            (encoded(attributes={"a": {"b": 1}}), "invalid"),
            (encoded(embedding=[0.0] * 65), "invalid"),
            (encoded(time=1_772_366_400), "invalid"),
            (encoded(time="1772366400"), "invalid"),
            (encoded(time="2026-03-01"), "invalid"),
            (encoded(time="2026-03-01T12:00:00"), "invalid"),
            (encoded(time="20260301T120000Z"), "invalid"),
            (encoded(time="0001-01-01T00:00:00+14:00"), "invalid"),
            (encoded(time=["2026"]), "invalid"),
            (encoded(time=None), "invalid"),
            (encoded(type="session.end"), "invalid"),
            (encoded(type="telepathy"), "unknown_type"),
            (encoded(type=None), "unknown_type"),
            (encoded(type=["llm.call"]), "unknown_type"),
            (encoded(schema="agent.event/2"), "unknown_schema"),
            (encoded(schema=None), "unknown_schema"),
            (encoded()[:-1] + b', "agent": "b"}', "duplicate_key"),
            (b'{"a" : 1, "b": 2, "b": 3}', "duplicate_key"),
            (encoded()[:-1] + b', "attributes": {"x": 1, "\\u0078": 2}}', "duplicate_key"),
            (json.dumps([EVENT] * 1_001).encode(), "too_many_events"),
        ],
    )
    def test_it_is_one_dead_letter_with_its_reason(self, value: bytes | None, reason: str) -> None:
        assert reasons(value) == [reason]

    @pytest.mark.parametrize("missing", ["schema", "event_id", "type", "time", "agent", "session", "status"])
    def test_a_missing_field_is_named(self, missing: str) -> None:
        assert missing in detail(json.dumps({k: v for k, v in EVENT.items() if k != missing}).encode())

    def test_neighbours_in_an_array_are_unharmed(self) -> None:
        bad = [
            b'{"b": 1, "b": 2}',
            b'{"x": NaN}',
            b'"\\ud800"',
            b"7",
            json.dumps(nested(32)).encode(),
            encoded(type="x"),
        ]
        value = b"[" + b",".join(item for one in bad for item in (encoded(), one)) + b"]"
        expected = ["duplicate_key", "not_finite", "malformed", "invalid", "too_deep", "unknown_type"]
        assert reasons(value) == [entry for one in expected for entry in ("e-1", one)]

    def test_the_detail_says_which_event_and_field_and_what_was_expected(self) -> None:
        found = read(json.dumps([EVENT, {**EVENT, "status": "fine"}]).encode())[1]
        assert isinstance(found, DeadLetter)
        assert found.detail == (
            "event 2 of 2: llm.call.status: input should be 'ok' or 'error', got a string of 4 characters"
        )

    def test_the_detail_does_not_repeat_content(self) -> None:
        secret = "the customer's home address"
        for field in ("status", "input_tokens", "time", "finish_reasons", "attributes", "refusal"):
            assert secret not in detail(encoded(**{field: secret}))
        assert secret not in detail(json.dumps(secret).encode())

    @pytest.mark.parametrize(
        ("ahead_ms", "taken"),
        [(5 * 60_000, True), (5 * 60_000 + 1, False), (-24 * HOUR_MS, True), (-24 * HOUR_MS - 1, False)],
    )
    def test_the_broker_s_clock_bounds_an_event_s_time(self, ahead_ms: int, taken: bool) -> None:
        assert reasons(encoded(), NOON_MS - ahead_ms) == ["e-1" if taken else "clock"]

    def test_a_backtest_has_no_clock(self) -> None:
        assert reasons(encoded(time="1999-01-01T00:00:00Z"), None) == ["e-1"]

    def test_a_skewed_event_leaves_its_neighbours(self) -> None:
        value = json.dumps([EVENT, {**EVENT, "time": "2026-02-01T00:00:00Z"}]).encode()
        assert reasons(value, NOON_MS) == ["e-1", "clock"]


class TestDeadLetter:
    def test_it_says_where_the_record_stands_and_keeps_it(self) -> None:
        (letter,) = read(b"\xffgarbage", NOON_MS)
        assert isinstance(letter, DeadLetter)
        assert (letter.topic, letter.partition, letter.offset) == ("agent.events", 3, 17)
        assert base64.b64decode(letter.raw_base64) == b"\xffgarbage"
        assert epoch_ms(letter.time) == NOON_MS

    def test_the_record_is_cut_at_the_limit(self) -> None:
        (letter,) = read(b"x" * (MAX_MESSAGE_BYTES + 1))
        assert isinstance(letter, DeadLetter)
        assert len(base64.b64decode(letter.raw_base64)) == MAX_MESSAGE_BYTES

    def test_many_bad_events_do_not_multiply_the_record(self) -> None:
        value = json.dumps([{"filler": "x" * 200}] * 1_000).encode()
        letters = read(value)
        assert len(letters) == 1_000
        kept = [letter.raw_base64 for letter in letters if isinstance(letter, DeadLetter)]
        assert base64.b64decode(kept[0]) == value
        assert sum(map(len, kept)) < 2 * 1024 * 1024


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)
fields = st.sampled_from([*EVENT, "attributes", "embedding", "as_of", "budget", "x"])
mutated = st.dictionaries(fields, json_values, max_size=3).map(lambda changes: {**EVENT, **changes})
PIECES = [b'"', b"{", b"}", b"[", b"1e999"]
quick = settings(
    max_examples=max(1, EXAMPLES // 3), deadline=None, suppress_health_check=[HealthCheck.too_slow]
)


def check(value: bytes, expected: int | None = None) -> None:
    found = read(value, NOON_MS)
    assert found
    assert all(isinstance(item, msgspec.Struct | DeadLetter) for item in found)
    if expected is not None:
        assert len(found) == expected


class TestAnyBytes:
    @quick
    @given(st.binary(max_size=200))
    def test_bytes(self, value: bytes) -> None:
        check(value)

    @quick
    @given(st.lists(mutated, min_size=1, max_size=4))
    def test_events_with_anything_in_their_fields(self, events: list[dict[str, Any]]) -> None:
        check(json.dumps(events).encode(), len(events))

    @quick
    @given(st.data())
    def test_an_event_with_bytes_put_in_and_taken_out(self, data: st.DataObject) -> None:
        value = bytearray(encoded(attributes={"a": 1}))
        for _ in range(data.draw(st.integers(1, 3))):
            start = data.draw(st.integers(0, len(value)))
            end = data.draw(st.integers(start, min(len(value), start + 4)))
            value[start:end] = data.draw(
                st.binary(max_size=4) | st.sampled_from([b'"', b"{", b"}", b"[", b"1e999"])
            )
        check(bytes(value))
