"""`watchkeeper agents`: the table a person reads."""

from __future__ import annotations

import io
import re
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


def shown_at(width: int, rows: list[dict[str, Any]]) -> list[str]:
    out = io.StringIO()
    Console(file=out, width=width).print(table(rows))
    return out.getvalue().splitlines()


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
    shown = shown_at(
        200,
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
        ],
    )
    agents = [line for line in shown if "default/" in line]
    assert [line.split()[0] for line in agents] == ["default/refuses", "default/new", "default/fine"]
    worst = [cell.strip() for cell in re.split(r"\s{2,}", agents[0].strip())]
    assert worst == [
        "default/refuses",
        "unhealthy 25",
        "refusal_rate 0.02 → 0.3",
        "20% (steps 85.0%)",
        "INC-1",
    ]
    assert shown[shown.index(agents[0]) + 1].split() == ["03-01", "12:00:00", "degrade"]
    assert "cannot tell" in agents[1]


def test_what_is_typed_next_is_whole_in_a_narrow_terminal() -> None:
    incident = "INC-ABCDEFGHIJ"
    held = [{"state": {"mode": "require_approval"}}]
    rows = [
        row("a-name-that-is-long", health("x", "cannot tell", None), open_incidents=[incident], commands=held)
    ]
    shown = "\n".join(shown_at(80, rows))
    for whole in (incident, "require_approval", "cannot tell", "03-01 12:00:00"):
        assert whole in shown


def test_without_a_broker_it_says_so_in_one_line(tmp_path: Any) -> None:
    invoke("db", "upgrade", "--data-dir", str(tmp_path))
    done = invoke("agents", "--data-dir", str(tmp_path), "--bootstrap", "127.0.0.1:1")
    assert done.returncode == 1
    assert "is the engine running?" in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
