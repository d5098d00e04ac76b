"""The LiteLLM example: its hooks, called as LiteLLM documents them, without LiteLLM."""

from __future__ import annotations

import json
import sys
import types
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from tests.client.commands import ENGINE, KEYS, OPERATOR, fields, raw
from watchkeeper_client import WantedState
from watchkeeper_client.gate import FailMode, wall_clock_ms

EXAMPLE = Path(__file__).parents[2] / "client" / "examples" / "litellm_gate.py"
SHOP = SimpleNamespace(key_alias="shop", metadata={})
DATA = {"model": "gpt-4o", "messages": [], "metadata": {"session_id": "s-1"}}


@pytest.fixture
def example(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The example as LiteLLM imports it, on a stand-in for the one class it takes from there."""
    names = ("litellm", "litellm.integrations", "litellm.integrations.custom_logger")
    for name in names:
        monkeypatch.setitem(sys.modules, name, types.ModuleType(name))
    sys.modules[names[-1]].CustomLogger = type("CustomLogger", (), {})  # type: ignore[attr-defined]
    trusted = tmp_path / "trusted.json"
    trusted.write_text(json.dumps({ENGINE.key_id: ENGINE.entry}))
    monkeypatch.setenv("WATCHKEEPER_TRUSTED_KEYS", str(trusted))
    monkeypatch.setenv("WATCHKEEPER_BOOTSTRAP", "127.0.0.1:1")
    module = types.ModuleType("litellm_gate")
    exec(compile(EXAMPLE.read_text(), str(EXAMPLE), "exec"), module.__dict__)
    return module


class Proxy:
    """What LiteLLM's proxy does around a call of a model."""

    def __init__(self, example: ModuleType, fail_mode: FailMode = "open") -> None:
        self.example = example
        self.state = WantedState(KEYS, enforcement_point="http:litellm:test")
        self.gate: Any = example.WatchkeeperGate(None, self.state, fail_mode)

    def command(self, *commands: bytes) -> None:
        for command in commands:
            assert self.state.apply(command, wall_clock_ms())["result"] == "applied"

    async def call(self, key: object = SHOP, data: dict[str, Any] = DATA, tokens: int = 10) -> Any:
        data = await self.gate.async_pre_call_hook(
            user_api_key_dict=key, cache=object(), data=dict(data), call_type="completion"
        )
        response = SimpleNamespace(usage=SimpleNamespace(total_tokens=tokens))
        return await self.gate.async_post_call_success_hook(
            data=data, user_api_key_dict=key, response=response
        )

    async def refused(self, **call: Any) -> tuple[int, str]:
        with pytest.raises(self.example.CallDenied) as caught:
            await self.call(**call)
        denied: Any = caught.value
        return denied.status_code, denied.decision.denied


async def test_a_call_goes_through_unless_the_agent_or_session_is_stopped(example: ModuleType) -> None:
    proxy = Proxy(example)
    assert (await proxy.call()).usage.total_tokens == 10
    proxy.command(raw(fields(session="s-1")))
    assert await proxy.refused() == (403, "halt")
    await proxy.call(data={"model": "gpt-4o", "metadata": {"session_id": "s-2"}})
    await proxy.call(key=SimpleNamespace(key_alias="other"))
    proxy.command(raw(fields(session="s-1", epoch=2, mode="run"), OPERATOR))
    await proxy.call()


async def test_the_global_stop_reaches_calls_that_name_nobody(example: ModuleType) -> None:
    proxy = Proxy(example)
    await proxy.call(key=SimpleNamespace(key_alias=None), data={"model": "gpt-4o"})
    proxy.command(raw(fields(agent="*")))
    assert await proxy.refused(key=SimpleNamespace(key_alias=None), data={"model": "gpt-4o"}) == (403, "halt")


async def test_a_throttle_says_try_later_and_a_budget_counts_what_was_used(example: ModuleType) -> None:
    proxy = Proxy(example)
    proxy.command(raw(fields(mode="degrade", budget={"tokens": 100})))
    await proxy.call(tokens=60)
    await proxy.call(tokens=60)
    assert await proxy.refused() == (403, "budget")
    proxy.command(raw(fields(session="s-2", mode="throttle", calls_per_minute=6)))
    other = {"model": "gpt-4o", "metadata": {"session_id": "s-2"}}
    await proxy.call(data=other)
    assert await proxy.refused(data=other) == (429, "throttle")


async def test_closed_denies_until_control_is_heard(example: ModuleType) -> None:
    proxy = Proxy(example, "closed")
    assert await proxy.refused() == (403, "unheard")
    proxy.gate.heard(0.0)
    await proxy.call()
    await proxy.call(key=SimpleNamespace(key_alias="new"))
    proxy.gate.heard(60_000.0)
    assert await proxy.refused() == (403, "unheard")


async def test_as_configured_it_does_not_wait_for_ever_for_a_bus_that_is_away(
    example: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WATCHKEEPER_FAIL_MODE", "closed")
    gate = example.gate_from_env()
    gate._first_wait_s = 0.05
    with pytest.raises(example.CallDenied, match="unheard"):
        await gate.async_pre_call_hook(SHOP, object(), dict(DATA), "completion")
    for job in gate._jobs:
        job.cancel()
