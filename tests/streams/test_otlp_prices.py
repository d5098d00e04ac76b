"""Prices: as the table says, and unknown where it says nothing."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal

import pytest
from genai_prices import Usage, calc_price

from streams.prices import cost_usd

MARCH = datetime(2026, 3, 1, tzinfo=UTC)


@pytest.mark.parametrize(
    ("provider", "known_as", "model"),
    [
        ("openai", "openai", "gpt-4o"),
        ("az.ai.openai", "azure", "gpt-4o"),
        ("aws.bedrock", "aws", "anthropic.claude-3-5-sonnet-20241022-v2:0"),
        ("gcp.vertex_ai", "google", "gemini-1.5-pro"),
        ("Anthropic", "anthropic", "claude-3-5-sonnet-20241022"),
        ("deepseek", "deepseek", "deepseek-chat"),
        ("google", "google", "gemini-2.5-pro"),
    ],
)
@pytest.mark.parametrize("tokens", [(1, 0, 0), (1_234, 567, 89), (300_000, 10, 0), (0, 0, 0)])
def test_the_quick_way_agrees_with_the_table(
    provider: str, known_as: str, model: str, tokens: tuple[int, int, int]
) -> None:
    fresh, output, cached = tokens
    usage = Usage(input_tokens=fresh, output_tokens=output, cache_read_tokens=cached)
    table = calc_price(usage, model, provider_id=known_as, genai_request_timestamp=MARCH).total_price
    assert isinstance(table, Decimal)
    assert cost_usd(provider, model, fresh, output, cached, MARCH) == pytest.approx(float(table), abs=1e-12)


@pytest.mark.parametrize(
    ("provider", "model"), [("openai", "no-such"), ("nobody", "gpt-4o"), (None, "no-such")]
)
def test_not_found_is_unknown_and_never_zero(provider: str | None, model: str) -> None:
    for _ in range(2):
        assert cost_usd(provider, model, 10, 10, None, MARCH) is None


def test_more_cached_than_sent_costs_no_less_than_nothing() -> None:
    cost = cost_usd("openai", "gpt-4o", 10, 0, 1_000, MARCH)
    assert cost is not None
    assert cost > 0
