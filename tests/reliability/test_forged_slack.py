"""Reliability test 29: forged Slack interactions, of which none is accepted; planted secrets, of which none
comes out.

Every forgery starts from a request that Slack really signed, as somebody on the way may have copied it, and
is made without the signing secret. Each would, if it were taken, halt an agent or let one run.
"""

from __future__ import annotations

import io
import json
import logging
import random
import secrets as dice_of_the_system
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlencode

import pytest
from prometheus_client import REGISTRY, generate_latest
from pydantic import SecretStr
from slack_sdk.signature import SignatureVerifier
from starlette.testclient import TestClient

from api.adapters import ResponderActions, StoreIncidents
from api.app import Parts, make_app
from api.security import Access
from config.settings import Settings, SlackSettings
from responders import actions
from responders.handle import Responder
from responders.incident import Incident
from responders.pages.page import render
from responders.policy import parse
from responders.slack import buttons
from responders.slack.front import front_of
from responders.store import projections
from responders.store.event_store import Store
from tests.api.conftest import Remembering
from tests.reliability.counts import count
from tests.responders.world import Clock, detection

FORGERIES: Final = count(600, 20_000)
SECRETS: Final = 50
SEED: Final = 29
NOW_S: Final = 1_772_366_400.0
SECRET: Final = "the-apps-signing-secret"
POLICY: Final = '[roles.operator]\npeople = ["U0OLGA"]\n'

Headers = dict[str, str]


def signed(body: str, secret: str = SECRET, at_s: float = NOW_S) -> Headers:
    timestamp = str(int(at_s))
    signature = SignatureVerifier(secret).generate_signature(timestamp=timestamp, body=body)
    return {
        "X-Slack-Request-Timestamp": timestamp,
        "X-Slack-Signature": str(signature),
        "Content-Type": "application/x-www-form-urlencoded",
    }


def press(deed: str, value: str, **more: Any) -> dict[str, Any]:
    return {
        "type": "block_actions",
        "user": {"id": "U0OLGA", "username": "olga"},
        "actions": [{"action_id": f"watchkeeper.{deed}", "value": value}],
        **more,
    }


def form(payload: dict[str, Any]) -> str:
    return urlencode({"payload": json.dumps(payload)})


@pytest.fixture
def at(tmp_path: Path) -> Iterator[Responder]:
    store = actions.connect(Settings(data_dir=tmp_path)).store
    yield Responder(store, parse(POLICY), Clock())
    store.close()


def client_of(at: Responder, settings: Settings | None = None) -> TestClient:
    rest = Remembering()
    store: Store = at.store
    parts = Parts(
        StoreIncidents(store), ResponderActions(at), rest, rest, rest, front_of(at, settings or Settings())
    )
    app = make_app(
        parts, Access("token", loopback_only=True), slack_signing_secret=SECRET, now_s=lambda: NOW_S
    )
    return TestClient(app, base_url="http://127.0.0.1")


def opened(at: Responder, **changes: Any) -> Incident:
    incident = at.detection(detection(**changes))
    assert incident is not None
    return incident


def value_of(incident: Incident, deed: str) -> str:
    return next(each.value for row in buttons.shown(incident) for each in row if each.deed == deed)


class Forger:
    """Makes requests from a genuine one, each of which says what Slack did not sign."""

    def __init__(self, body: str) -> None:
        self.dice = random.Random(SEED)
        self.body = body

    def another_body(self) -> tuple[str, Headers]:
        other = self.body.replace("resume", self.dice.choice(("halt", "approve", "resolve")))
        return other + f"&x={self.dice.random()}", signed(self.body)

    def a_flipped_bit(self) -> tuple[str, Headers]:
        headers = signed(self.body)
        signature = headers["X-Slack-Signature"]
        place = self.dice.randrange(3, len(signature))
        digit = self.dice.choice([each for each in "0123456789abcdef" if each != signature[place]])
        return self.body, {**headers, "X-Slack-Signature": signature[:place] + digit + signature[place + 1 :]}

    def another_secret(self) -> tuple[str, Headers]:
        guess = self.dice.choice(
            ["\u00e9", SECRET[:-1], SECRET.upper(), f"{SECRET} ", str(self.dice.random())]
        )
        return self.body, signed(self.body, guess)

    def another_time(self) -> tuple[str, Headers]:
        shift = self.dice.choice((-1, 1)) * self.dice.uniform(301, 10**7)
        return self.body, signed(self.body, at_s=NOW_S + shift)

    def a_time_that_was_not_signed(self) -> tuple[str, Headers]:
        odd = self.dice.choice(
            ["", "0", "-1", "nan", "inf", "1e9", "\u00b2", str(int(NOW_S) + 1), f" {int(NOW_S)}x"]
        )
        return self.body, {
            **signed(self.body, at_s=NOW_S - 2),
            "X-Slack-Request-Timestamp": odd,
        }

    def another_form_of_signature(self) -> tuple[str, Headers]:
        headers = signed(self.body)
        genuine = headers["X-Slack-Signature"]
        odd = self.dice.choice(
            ["", "v0=", "v1=" + genuine[3:], genuine[3:], genuine[:-1], genuine + "0", "v0=" + "0" * 64]
        )
        return self.body, {**headers, "X-Slack-Signature": odd}

    def no_signature(self) -> tuple[str, Headers]:
        headers = signed(self.body)
        del headers[self.dice.choice(("X-Slack-Signature", "X-Slack-Request-Timestamp"))]
        return self.body, headers

    def every(self) -> dict[str, Callable[[], tuple[str, Headers]]]:
        names = [name for name in vars(Forger) if not name.startswith("_") and name != "every"]
        return {name: getattr(self, name) for name in names}


def test_no_forgery_is_accepted(at: Responder) -> None:
    held = opened(at)
    client = client_of(at)
    body = form(press("resume", value_of(held, "resume")))
    forger, refused = Forger(body), Counter[str]()
    ways = forger.every()
    for _ in range(FORGERIES):
        name = forger.dice.choice(sorted(ways))
        content, headers = ways[name]()
        raw = {key.encode(): value.encode("latin-1") for key, value in headers.items()}
        assert client.post("/slack/interactions", content=content, headers=raw).status_code == 401, name
        refused[name] += 1
    assert set(refused) == set(ways)
    assert projections.incident(at.store, held.incident_id).version == held.version
    # The genuine one is taken, once.
    headers = signed(body)
    assert client.post("/slack/interactions", content=body, headers=headers).status_code == 200
    after = projections.incident(at.store, held.incident_id)
    assert after.containments[0].state == "released"
    assert client.post("/slack/interactions", content=body, headers=headers).status_code == 401
    assert projections.incident(at.store, held.incident_id).version == after.version


def test_a_genuine_press_of_a_made_up_button_does_nothing(at: Responder) -> None:
    held = opened(at)
    client, dice = client_of(at), random.Random(SEED)
    genuine = value_of(held, "resume")
    for number in range(count(60, 2_000)):
        place = dice.randrange(len(genuine))
        made_up = genuine[:place] + dice.choice(":0aZ-\u00e9") + genuine[place + 1 :]
        deed = "resume" if made_up != genuine and dice.random() < 0.7 else dice.choice(("approve", "deny"))
        body = form(press(deed, made_up if deed == "resume" else genuine, trigger_id=str(number)))
        answer = client.post(
            "/slack/interactions", content=body, headers=signed(body, at_s=NOW_S + number % 200)
        )
        assert answer.status_code == 200
        assert projections.incident(at.store, held.incident_id).version == held.version


def test_no_planted_secret_comes_out(at: Responder, caplog: pytest.LogCaptureFixture) -> None:
    """In tokens, in what a payload carries beside what is asked, and in requests that fail."""
    planted = [f"xoxb-{number}-{dice_of_the_system.token_hex(12)}" for number in range(SECRETS)]
    bot, app, *others = planted
    settings = Settings(
        slack=SlackSettings(
            bot_token=SecretStr(bot), app_token=SecretStr(app), base_url="http://127.0.0.1:9/api/"
        )
    )
    held, client = opened(at), client_of(at, settings)
    caplog.set_level(logging.DEBUG)
    out, told = io.StringIO(), [repr(settings)]
    with redirect_stdout(out), redirect_stderr(out):
        for number, secret in enumerate(others):
            places: dict[str, Any] = {
                "token": secret,
                "response_url": f"http://127.0.0.1:9/elsewhere/{secret}?key={secret}",
                "message": {"text": secret, "blocks": [{"text": secret}]},
                "state": {"values": {"block": {"input": {"value": secret}}}},
                "trigger_id": f"{number}-{secret}",
            }
            deed = ("resume", "halt", "approve", "resolve")[number % 4]
            value = (
                value_of(held, deed) if deed in ("resume", "halt", "resolve") and number < 4 else "INC-A::"
            )
            for body, secret_of_app in (
                (form(press(deed, value, **places)), SECRET),
                (form(press(deed, secret, **places)), "wrong"),
                (f"payload={secret}", SECRET),
            ):
                answer = client.post("/slack/interactions", content=body, headers=signed(body, secret_of_app))
                told.append(answer.text + str(answer.headers))
    view = projections.incident(at.store, held.incident_id)
    told += [out.getvalue(), view.model_dump_json(), generate_latest(REGISTRY).decode()]
    told += [json.dumps(render(held, "opened").blocks)]
    told += [
        f"{each.name} {each.getMessage()} {each.exc_text}" for each in caplog.records if each.name != "httpx"
    ]
    everything = "\n".join(told)
    assert view.version > held.version
    assert [secret for secret in planted if secret in everything] == []
