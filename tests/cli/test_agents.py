"""`watchkeeper agents`: the table a person reads."""

from __future__ import annotations

import io
from datetime import UTC, datetime
from typing import Any

from rich.console import Console

from cli.agents import table
from schemas.health import AgentHealth, HealthPart
from tests.cli.invoke import invoke

SINCE = datetime(2026, 3, 1, 12, tzinfo=UTC)


def row(agent: str, health: AgentHealth | None, **more: Any) -> dict[str, Any]:
    shown = None if health is None else health.model_dump(mode="json")
    return {
        "tenant": "default",
        "agent": agent,
        "open_incidents": [],
        "commands": [],
        "health": shown,
        **more,
    }


def health(agent: str, state: Any, score: float | None, **parts: HealthPart) -> AgentHealth:
    return AgentHealth(agent=agent, time=SINCE, since=SINCE, state=state, score=score, parts=parts)


def lines(rows: list[dict[str, Any]]) -> list[str]:
    out = io.StringIO()
    Console(file=out, width=200).print(table(rows))
    return [line for line in out.getvalue().splitlines() if "default/" in line]


def test_the_worst_agent_comes_first_with_its_worst_part_and_since_when() -> None:
    fine = HealthPart(
        state="healthy", score=100.0, weight=1.0, metric="error_rate", observed=0.01, expected=0.01
    )
    bad = HealthPart(
        state="critical", score=25.0, weight=1.0, metric="refusal_rate", observed=0.3, expected=0.02
    )
    steps = HealthPart(state="shown", score=85.0, weight=0.0, metric="error_rate", observed=0.85)
    ended = HealthPart(
        state="shown", score=20.0, weight=0.0, metric="completion_rate", observed=0.2, expected=0.197
    )
    shown = lines(
        [
            row("new", None),
            row("fine", health("fine", "healthy", 100.0, error_rate=fine)),
            row(
                "refuses",
                health(
                    "refuses",
                    "unhealthy",
                    25.0,
                    error_rate=fine,
                    refusal_rate=bad,
                    step_success=steps,
                    end_to_end=ended,
                ),
                open_incidents=["INC-1"],
                commands=[{"state": {"mode": "degrade"}}],
            ),
        ]
    )
    assert [line.split("│")[1].strip() for line in shown] == [
        "default/refuses",
        "default/new",
        "default/fine",
    ]
    worst = [cell.strip() for cell in shown[0].split("│")[2:-1]]
    assert worst == [
        "unhealthy",
        "25",
        "refusal_rate 0.02 → 0.3",
        "20% (steps 85.0%)",
        "2026-03-01 12:00:00",
        "INC-1",
        "degrade",
    ]
    assert "cannot tell" in shown[1]


def test_without_a_broker_it_says_so_in_one_line(tmp_path: Any) -> None:
    invoke("db", "upgrade", "--data-dir", str(tmp_path))
    done = invoke("agents", "--data-dir", str(tmp_path), "--bootstrap", "127.0.0.1:1")
    assert done.returncode == 1
    assert "is the engine running?" in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
