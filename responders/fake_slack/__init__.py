"""A Slack for tests and demonstrations: the Web API methods the responder calls, with faults on demand.

Posts are checked as Slack checks them. A fault is asked for by method and used up once:
``slack.fail("chat.postMessage", Fault.ACCEPT_THEN_RESET)``; others stand until `FakeSlack.heal`.
`FakeSlack.press` and `FakeSlack.command` do what people do; the app is told over Socket Mode, or by a signed
POST to `FakeSlack.events_url`.
"""

from __future__ import annotations

from responders.fake_slack.blocks import problem_with
from responders.fake_slack.faults import EVERY, TRANSIENT, AnyFault, Fault, Faults, Refused
from responders.fake_slack.interactions import NoSuchButtonError
from responders.fake_slack.server import (
    GOOD_APP_TOKEN,
    GOOD_TOKEN,
    RESPONSE_URL,
    SIGNING_SECRET,
    UPLOAD,
    FakeSlack,
)
from responders.fake_slack.socket_mode import Heard, SocketFault, SocketMode
from responders.fake_slack.workspace import OPERATOR, VIEWER, Ephemeral, File, Posted, User

__all__ = [
    "EVERY",
    "GOOD_APP_TOKEN",
    "GOOD_TOKEN",
    "OPERATOR",
    "RESPONSE_URL",
    "SIGNING_SECRET",
    "TRANSIENT",
    "UPLOAD",
    "VIEWER",
    "AnyFault",
    "Ephemeral",
    "FakeSlack",
    "Fault",
    "Faults",
    "File",
    "Heard",
    "NoSuchButtonError",
    "Posted",
    "Refused",
    "SocketFault",
    "SocketMode",
    "User",
    "problem_with",
]
