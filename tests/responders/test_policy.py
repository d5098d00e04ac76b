"""A policy file is data with defaults; a wrong one is said with file, line and key."""

from __future__ import annotations

import doctest
import importlib
from datetime import UTC, datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from responders import policy
from responders.policy import DEFAULT, Deed, Hours, PolicyError, Told
from responders.policy.hours import DAYS
from schemas.control import ControlState
from tests.responders.world import HALT, START, detection


def test_an_empty_file_is_the_default_policy(tmp_path: Path) -> None:
    path = tmp_path / "policy.toml"
    path.write_text("")
    assert policy.load(path) == policy.load(None) == DEFAULT


@pytest.mark.parametrize(
    ("changes", "state", "trust"),
    [
        ({}, HALT, "automatic"),
        ({"severity": "warning"}, HALT, "approve"),
        ({"session": None}, HALT, "approve"),
        ({"session": None, "detector": "spawn_storm"}, HALT, "automatic"),
        ({"session": None}, ControlState(mode="degrade", ladder="rag"), "automatic"),
        ({}, ControlState(mode="require_approval"), "approve"),
    ],
)
def test_the_default_halts_sessions_on_critical_and_steps_down(
    changes: dict[str, object], state: ControlState, trust: str
) -> None:
    assert DEFAULT.containment.trust_in(detection(**changes), state) == trust


def test_the_first_rule_that_matches_decides() -> None:
    text = """
    [[containment.rules]]
    trust = "shadow"
    agents = ["billing"]

    [[containment.rules]]
    trust = "automatic"
    """
    rules = policy.parse(text).containment
    assert rules.trust_in(detection(), HALT) == "shadow"
    assert rules.trust_in(detection(agent="other"), HALT) == "automatic"


def test_channels_of_the_file_win_over_the_installation() -> None:
    named = policy.parse('[paging]\nchannels = ["slack:#agents"]').with_channels("terminal")
    assert named.paging.channels == ("slack:#agents",)
    assert DEFAULT.with_channels("terminal").paging.channels == ("terminal",)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("[paging]\nseverities = ['info']\n", r"p.toml:2: paging\.severities\.0: .*'warning' or 'critical'"),
        (
            "\n\n[paging]\nchannel = 'x'\n",
            r"p.toml:4: paging\.channel: there is no such key: did you mean ch",
        ),
        ("[containment]\n\nverify_quiet_ms = 1\n", r"p.toml:3: containment\.verify_quiet_ms: .*100"),
        (
            "[[containment.rules]]\ntrust = 'shadow'\n[[containment.rules]]\ntrust = 'maybe'\n",
            r"p.toml:4: containment\.rules\.1\.trust: .*'shadow', 'approve' or 'automatic'",
        ),
        ("[paging\n", "p.toml: not TOML: .*line 1"),
        ("[[route]]\ndetectors = ['latency']\n", r"p.toml:1: route\.0\.channels: field required"),
        (
            "[[route]]\nchannels = ['a']\n[[route]]\nchannels = ['b']\nhours = { zone = 'Mars/Olympus' }\n",
            r"p.toml:5: route\.1\.hours\.zone: there is no time zone mars/olympus",
        ),
        ("[[quiet_hours]]\nfrom = '25:00'\n", r"p.toml:2: quiet_hours\.0\.from: must be a time of day"),
        (
            "[[silence]]\nagents = ['a']\nuntil = 2026-03-01T10:00:00\n",
            r"p.toml:3: silence\.0\.until: .*timezone",
        ),
        (
            "[[escalation.steps]]\nafter_minutes = 9\n[[escalation.steps]]\nafter_minutes = 5\n",
            r"p.toml:1: escalation\.steps: each step must come after",
        ),
        ("[roles.ops]\nmay = ['destroy']\n", r"p.toml:2: roles\..*may"),
        ("[[inhibit]]\nsource = []\ntargets = ['x']\n", r"p.toml:2: inhibit\.0\.source: "),
        ("[[containment.ladder]]\nrungs = ['static', 'rag']\n", r"p.toml:2: .*rungs: must go down"),
        ("[pacing]\n'slack:#a' = 0\n", r"p.toml:2: pacing\.slack:#a: "),
        ("[grouping]\nby = ['planet']\n", r"p.toml:2: grouping\.by\.0: .*'session', 'agent'"),
    ],
)
def test_a_wrong_policy_is_said_with_line_and_key(text: str, says: str) -> None:
    with pytest.raises(PolicyError, match=says) as caught:
        policy.parse(text, "p.toml")
    assert "\n" not in str(caught.value)


def test_a_policy_that_is_not_there_is_said(tmp_path: Path) -> None:
    with pytest.raises(PolicyError, match="WATCHKEEPER_POLICY"):
        policy.load(tmp_path / "none.toml")


FULL = """
[paging]
channels = ["slack:#agents"]
fallback = "pagerduty"

[[route]]
severities = ["critical"]
agents = ["billing-*"]
channels = ["pagerduty"]
people = ["U1"]
also = true

[[route]]
detectors = ["latency"]
hours = { days = ["mon", "tue", "wed", "thu", "fri"], from = "09:00", to = "17:00", zone = "Europe/Berlin" }
channels = ["slack:#perf"]

[[severity]]
detectors = ["latency"]
agents = ["batch-*"]
to = "info"

[[quiet_hours]]
from = "22:00"
to = "07:00"
zone = "Europe/Berlin"

[[escalation.steps]]
after_minutes = 5
people = ["U2"]

[[escalation.steps]]
after_minutes = 20
channels = ["pagerduty"]

[storm]
pages_a_minute = 3

[pacing]
"slack:#agents" = 20

[grouping]
window_minutes = 60

[[grouping.rules]]
detectors = ["latency"]
by = ["agent_detector"]
window_minutes = 10

[[inhibit]]
source = ["provider_outage"]
targets = ["latency"]

[[silence]]
detectors = ["canary"]
until = 2026-03-02T00:00:00Z
reason = "moving house"

[roles.operator]
people = ["U9", "alice"]

[roles.anyone]
may = ["acknowledge"]

[[owner]]
agents = ["billing-*"]
owner = "payments"
runbook = "https://wiki/payments"

[[containment.rules]]
trust = "approve"
agents = ["billing-*"]
order = { mode = "require_approval" }

[[containment.ladder]]
agents = ["shop"]
rungs = ["full", "static"]
"""
MONDAY = datetime(2026, 3, 2, 9, 0, tzinfo=UTC)


def test_a_policy_with_everything_in_it() -> None:
    full = policy.parse(FULL)
    assert full.told(detection(agent="billing-eu"), MONDAY) == Told(("pagerduty", "slack:#agents"), ("U1",))
    assert full.told(detection(detector="latency"), MONDAY) == Told(("slack:#perf",))
    assert full.told(detection(detector="latency"), MONDAY - timedelta(days=1)) == Told(("slack:#agents",))
    assert full.graded(detection(detector="latency", agent="batch-1")).severity == "info"
    assert full.graded(detection()).severity == "critical"
    assert full.quiet_until("critical", MONDAY.replace(hour=2)) is None
    assert full.quiet_until("warning", MONDAY.replace(hour=2)) == MONDAY.replace(hour=6)
    assert full.silenced_until(detection(detector="canary"), START) == (
        datetime(2026, 3, 2, tzinfo=UTC),
        "moving house",
    )
    assert full.silenced_until(detection(detector="canary"), MONDAY) is None
    assert full.grouping.of(detection(detector="latency")).by == ("agent_detector",)
    assert full.grouping.of(detection()).window_minutes == 60
    owner = full.owner_of("default", "billing-eu")
    assert owner is not None
    assert (owner.owner, owner.runbook) == ("payments", "https://wiki/payments")
    assert full.owner_of("default", "shop") is None
    assert set(full.channels) == {"slack:#agents", "pagerduty", "slack:#perf"}


def test_a_rule_may_order_what_no_detector_suggests_and_a_ladder_has_the_rungs_there_are() -> None:
    containment = policy.parse(FULL).containment
    plain = detection(agent="billing-eu", suggested=None)
    assert containment.plan(plain) == (ControlState(mode="require_approval"), "approve")
    assert containment.plan(detection(suggested=None)) is None
    shop = detection(agent="shop", suggested=ControlState(mode="degrade", ladder="rag"))
    assert containment.plan(shop) == (ControlState(mode="degrade", ladder="static"), "approve")
    bare = policy.parse("[[containment.ladder]]\nrungs = ['full', 'rag']").containment
    deeper = detection(suggested=ControlState(mode="degrade", ladder="static"))
    plan = bare.plan(deeper)
    assert plan is not None
    assert plan[0] == HALT


@pytest.mark.parametrize(
    ("deed", "names", "may"),
    [
        ("acknowledge", ("U7",), True),
        ("halt", ("U7",), False),
        ("resume", ("U7", "alice"), True),
        ("resume", ("U7", "bob"), False),
    ],
)
def test_roles_say_who_may(deed: Deed, names: tuple[str, ...], may: bool) -> None:
    assert policy.parse(FULL).roles.may(deed, *names) is may


def test_by_default_anyone_may_stop_an_agent_and_nobody_may_let_one_run() -> None:
    may = DEFAULT.roles.may
    assert may("halt", "U7")
    assert may("acknowledge", "U7")
    assert not any(may(deed, "U7") for deed in ("resume", "approve", "deny", "degrade"))


@given(
    st.datetimes(datetime(2026, 3, 20), datetime(2026, 4, 10)),  # noqa: DTZ001 - made aware below
    st.sampled_from(["UTC", "Europe/Berlin", "America/New_York", "Asia/Kolkata"]),
    st.integers(0, 23),
    st.integers(0, 23),
    st.sets(st.sampled_from(DAYS)),
)
@settings(max_examples=100, deadline=None)
def test_hours_end_when_they_say_and_not_before(
    naive: datetime, zone: str, begin: int, end: int, days: set[str]
) -> None:
    """Also over a change to summer time, on which these days lie."""
    moment = naive.replace(tzinfo=UTC)
    hours = Hours.model_validate({"from": f"{begin:02}:00", "to": f"{end:02}:00", "zone": zone, "days": days})
    over = hours.end_of(moment)
    if not days:
        assert over is None
    elif begin == end and len(days) == 7:
        assert over is not None
    elif over is not None:
        assert moment < over
        assert moment in hours
        assert over not in hours
        assert (over - timedelta(seconds=1)) in hours
        assert over.astimezone(ZoneInfo(zone)).hour == end


def test_a_chain_repeats_its_last_step_only_as_often_as_it_says() -> None:
    chain = policy.parse(
        "[escalation]\nrepeat_minutes = 10\nrepeat_at_most = 2\n[[escalation.steps]]\nafter_minutes = 5"
    ).escalation
    times = [step.after_minutes if (step := chain.step(number)) else None for number in (1, 2, 3, 4)]
    assert times == [5, 15, 25, None]


@pytest.mark.parametrize("name", ["hours", "section"])
def test_the_examples_in_the_docstrings_hold(name: str) -> None:
    module = importlib.import_module(f"responders.policy.{name}")
    result = doctest.testmod(module)
    assert result.attempted
    assert not result.failed
