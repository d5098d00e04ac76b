"""`watchkeeper policy`: what is wrong with one, what another would change."""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime
from pathlib import Path

import pytest
from typer.testing import CliRunner

from cli.main import app
from config.policy_file import PolicyError
from config.settings import Settings
from responders.handle import Responder
from responders.policy import DEFAULT, Policy, parse
from responders.store.event_store import Store
from schemas.detection import DETECTION, Detection
from tests.cli.invoke import invoke

LOOP = Detection(
    detection_id="d-1",
    detector="tool_loop",
    detector_version=1,
    agent="billing",
    session="s-1",
    severity="critical",
    time=datetime(2026, 3, 1, 3, tzinfo=UTC),
    onset=datetime(2026, 3, 1, 3, tzinfo=UTC),
    metric="identical_calls",
    score=1.0,
    sample_size=5,
    summary="billing made the same call 5 times.",
    runbook="tool_loop",
    suggested={"mode": "halt"},
)

SET_UP = {
    "WATCHKEEPER_SLACK__BOT_TOKEN": "xoxb-1",
    "WATCHKEEPER_PAGERDUTY__ONCALL__ROUTING_KEY": "f" * 32,
}
"""The channels that the policies here name."""


def call(*arguments: str) -> str:
    result = CliRunner().invoke(app, ["policy", *arguments], env=SET_UP)
    assert result.exit_code == 0, result.output
    return result.stdout


def test_check_says_usable_or_where_it_is_wrong(tmp_path: Path) -> None:
    file = tmp_path / "policy.toml"
    file.write_text("[[route]]\nchannels = ['slack:#a']\n")
    assert "1 routes" in call("check", str(file))
    assert json.loads(call("check", str(file), "--json"))["route"][0]["channels"] == ["slack:#a"]
    file.write_text("\n[storm]\npages_a_minute = 0\n")
    result = CliRunner().invoke(app, ["policy", "check", str(file)])
    assert isinstance(result.exception, PolicyError)
    assert str(result.exception).startswith(f"{file}:3: storm.pages_a_minute: ")


def test_diff_of_recorded_detections(tmp_path: Path) -> None:
    old, new, seen = tmp_path / "old.toml", tmp_path / "new.toml", tmp_path / "seen.jsonl"
    old.write_text("")
    new.write_text("[[containment.rules]]\ntrust = 'shadow'\n")
    seen.write_bytes(DETECTION.dump_json(LOOP) + b"\n")
    found = json.loads(call("diff", str(old), str(new), "--events", str(seen), "--json"))
    assert found["old"]["containments"] == 1
    assert found["new"]["containments"] == 0
    (one,) = found["differences"]
    assert one["detection"]["detection_id"] == "d-1"
    assert (one["old"]["containment"], one["new"]["containment"]) == (["halt"], ["shadow: halt"])
    assert "1 of 1 detections" in call("diff", str(old), str(new), "--events", str(seen))


def test_diff_of_recorded_events(tmp_path: Path) -> None:
    old, new, seen = tmp_path / "old.toml", tmp_path / "new.toml", tmp_path / "events.jsonl"
    old.write_text("")
    new.write_text("[[severity]]\ndetectors = ['tool_loop']\nto = 'info'\n")
    seen.write_text(
        "\n".join(
            json.dumps(
                {
                    "schema": "agent.event/1",
                    "event_id": f"e{number}",
                    "type": "tool.call",
                    "time": f"2026-03-01T03:00:{number:02}Z",
                    "agent": "billing",
                    "session": "s-1",
                    "tool": "list_files",
                    "arguments_hash": "a",
                    "result_hash": "r",
                    "status": "ok",
                }
            )
            for number in range(12)
        )
    )
    found = json.loads(call("diff", str(old), str(new), "--events", str(seen), "--json"))
    assert found["old"]["incidents"] == 1
    assert found["new"]["incidents"] == 0
    assert {each["detection"]["detector"] for each in found["differences"]} == {"tool_loop"}


def test_explain_says_what_would_be_done() -> None:
    said = json.loads(call("explain", "tool_loop", "default/billing/s-1", "--suggests", "halt", "--json"))
    assert said["containment"] == "halt"
    assert said["paged"] == "at once"


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (
            "[[route]]\nagents = ['a']\nchanels = ['terminal']",
            ":3: route.0.chanels: there is no such key: did you",
        ),
        ("[[silence]]\nagents = 'billing'", ":2: silence.0.agents: must be a list, in [ ] (and 1 more)"),
        (
            "\n[[route]]\ndetectors = ['tool_lop']\nchannels = ['terminal']",
            ":3: route.0.detectors: there is no",
        ),
        (
            "[[containment.rules]]\ntrust = 'shadow'\ndetectors = ['x']",
            ":3: containment.rules.0.detectors: there",
        ),
        (
            "[[inhibit]]\nsource = ['outage']\ntargets = ['latency']",
            ":2: inhibit.0.source: there is no detector",
        ),
    ],
)
def test_check_says_what_was_meant(tmp_path: Path, text: str, says: str) -> None:
    file = tmp_path / "policy.toml"
    file.write_text(text)
    result = CliRunner().invoke(app, ["policy", "check", str(file)])
    assert isinstance(result.exception, PolicyError)
    assert str(result.exception).startswith(f"{file}{says}")


def test_check_names_rules_that_never_decide(tmp_path: Path) -> None:
    file = tmp_path / "policy.toml"
    route = "[[route]]\nagents = ['a']\nchannels = ['terminal']\n"
    narrow = "[[route]]\nagents = ['a']\nseverities = ['critical']\nchannels = ['terminal']\n"
    rules = "[[containment.rules]]\ntrust = 'shadow'\nscope = 'agent'\n" * 2
    file.write_text(narrow + route + narrow + rules)
    done = invoke("policy", "check", str(file), "--json")
    assert done.stderr == f"{file}: [[route]] number 3 never decides: number 1 fits all that it fits\n"
    assert len(json.loads(done.stdout)["route"]) == 3
    file.write_text(route.replace("[[route]]", "[[route]]\nalso = true") + route)
    assert invoke("policy", "check", str(file)).stderr == ""


def test_explain_knows_detectors_and_says_how_often_it_repeats(tmp_path: Path) -> None:
    wrong = CliRunner().invoke(app, ["policy", "explain", "tool_lop", "billing"])
    assert "did you mean 'tool_loop'?" in str(wrong.exception)
    file = tmp_path / "policy.toml"
    file.write_text("[escalation]\nrepeat_minutes = 30\nrepeat_at_most = 4\n")
    said = json.loads(call("explain", "tool_loop", "billing", "--policy", str(file), "--json"))
    assert said["unanswered"].endswith("; then every 30 min, 4 times at most")


def test_the_documented_policy_is_one() -> None:
    text = (Path(__file__).parents[2] / "docs" / "policy.md").read_text()
    blocks = re.findall(r"```toml\n(.*?)```", text, re.DOTALL)
    assert len(blocks) == 4
    shown = parse("\n".join(blocks), "docs/policy.md")
    assert shown.model_fields_set == set(Policy.model_fields) - {"objective"}


def test_what_a_person_says_is_kept(tmp_path: Path) -> None:
    """A silence, a false alarm, and what they come to, by the command line."""

    def run(*arguments: str) -> str:
        result = CliRunner().invoke(app, [*arguments, "--data-dir", str(tmp_path)])
        assert result.exit_code == 0, (result.output, result.exception)
        return result.stdout

    run("db", "upgrade")
    mistyped = invoke("silence", "billing", "--detector", "tool_lop", "--data-dir", str(tmp_path))
    assert (mistyped.returncode, mistyped.stdout) == (1, "")
    assert "did you mean 'tool_loop'?" in mistyped.stderr
    assert "billing is silent until" in run(
        "silence", "billing", "--minutes", "30", "--detector", "tool_loop"
    )
    store = Store.open(Settings(data_dir=tmp_path).database_url)
    incident = Responder(store, DEFAULT.with_channels("terminal")).detection(LOOP)
    store.close()
    assert incident is not None
    assert incident.deferrals["opened"].reason == "silence"
    run("resolve", incident.incident_id, "--false-alarm")
    (loop,) = json.loads(run("incidents", "--precision", "--json"))
    assert (loop["detector"], loop["false_alarms"], loop["precision"]) == ("tool_loop", 1, 0.0)
    assert json.loads(run("db", "rebuild", "--json")) == {"incidents": 0, "causes": 0, "paged": 0}
