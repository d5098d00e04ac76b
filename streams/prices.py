"""What a model call costs, from genai-prices' offline table. Not found is unknown (None), never 0."""

from __future__ import annotations

from datetime import datetime
from functools import lru_cache

from genai_prices import Usage
from genai_prices.data_snapshot import find_provider_by_id, get_snapshot
from genai_prices.types import ModelInfo, ModelPrice, Provider, TieredPrices

_PROVIDER_NAMES = {
    "aws.bedrock": "aws",
    "aws_bedrock": "aws",
    "bedrock": "aws",
    "az.ai.inference": "azure",
    "az.ai.openai": "azure",
    "azure.ai.inference": "azure",
    "azure.ai.openai": "azure",
    "azure_openai": "azure",
    "gcp.gemini": "google",
    "gcp.gen_ai": "google",
    "gcp.vertex_ai": "google",
    "gemini": "google",
    "google_genai": "google",
    "mistral_ai": "mistral",
    "vertex_ai": "google",
    "x_ai": "x-ai",
    "xai": "x-ai",
}
"""OpenTelemetry's names of providers, where genai-prices has another."""

_MAX_NAME_CHARS = 256


def cost_usd(
    provider: str | None,
    model: str,
    input_tokens: int,
    output_tokens: int,
    cache_read_tokens: int | None,
    time: datetime,
) -> float | None:
    """The price of a call at ``time`` in US dollars; None when the model or its price is not in the table.

    ``input_tokens`` includes what was read from the cache, as in OpenTelemetry.
    """
    if len(model) > _MAX_NAME_CHARS or len(provider or "") > _MAX_NAME_CHARS:
        return None
    priced = _find(provider.lower() if provider else None, model.lower())
    if priced is None:
        return None
    cached = min(cache_read_tokens or 0, input_tokens)
    rates = priced.rates(time)
    if rates is None:
        return priced.by_table(input_tokens, output_tokens, cached, time)
    return (input_tokens - cached) * rates[0] + output_tokens * rates[1] + cached * rates[2]


class _PricedModel:
    """A model of the table, with the dollars per token of those of its prices that are a plain product."""

    def __init__(self, owner: Provider, info: ModelInfo) -> None:
        self._owner = owner
        self._info = info
        self._rates: dict[int, tuple[float, float, float] | None] = {}

    def rates(self, time: datetime) -> tuple[float, float, float] | None:
        """Dollars per fresh input, output and cached input token; None where only the table can tell."""
        price = self._info.get_prices(time)
        if id(price) not in self._rates:
            self._rates[id(price)] = self._learn(price, time)
        return self._rates[id(price)]

    def _learn(self, price: ModelPrice, time: datetime) -> tuple[float, float, float] | None:
        if not _is_priced(price) or any(isinstance(value, TieredPrices) for value in vars(price).values()):
            return None
        million = 1_000_000
        costs = [
            self.by_table(million, 0, 0, time),
            self.by_table(0, million, 0, time),
            self.by_table(million, 0, million, time),
        ]
        known = [cost / million for cost in costs if cost is not None]
        return (known[0], known[1], known[2]) if len(known) == len(costs) else None

    def by_table(self, input_tokens: int, output_tokens: int, cached: int, time: datetime) -> float | None:
        """The table's own arithmetic, tiers included: exact and slow."""
        usage = Usage(input_tokens=input_tokens, output_tokens=output_tokens, cache_read_tokens=cached)
        try:
            price = self._info.calc_price(usage, self._owner, genai_request_timestamp=time)
        except ValueError:
            return None
        return float(price.total_price) if _is_priced(price.model_price) else None


def _is_priced(price: ModelPrice) -> bool:
    """A model without prices per token would come to 0, which nobody knows."""
    return price.input_mtok is not None or price.output_mtok is not None


@lru_cache(maxsize=4096)
def _find(provider: str | None, model: str) -> _PricedModel | None:
    """Also remembers what is not there: looking through all patterns is slow.

    The table's own look-up is not used because it remembers every name that it was ever asked for.
    """
    providers = get_snapshot().providers
    if provider is not None:
        owner = find_provider_by_id(providers, _PROVIDER_NAMES.get(provider, provider))
    else:
        matching = (
            one for one in providers if one.model_match is not None and one.model_match.is_match(model)
        )
        owner = next(matching, None)
    info = None if owner is None else owner.find_model(model, all_providers=providers)
    return None if owner is None or info is None else _PricedModel(owner, info)
