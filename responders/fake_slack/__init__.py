"""A Slack for tests and demonstrations: the Web API methods the responder calls, with faults on demand.

Posts are checked as Slack checks them. A fault is asked for by method and used up once:
``slack.fail("chat.postMessage", Fault.ACCEPT_THEN_RESET)``; others stand until `FakeSlack.heal`.
"""

from __future__ import annotations

from responders.fake_slack.blocks import problem_with
from responders.fake_slack.faults import EVERY, TRANSIENT, AnyFault, Fault, Faults, Refused
from responders.fake_slack.server import GOOD_APP_TOKEN, GOOD_TOKEN, UPLOAD, FakeSlack
from responders.fake_slack.workspace import OPERATOR, VIEWER, Ephemeral, File, Posted, User

__all__ = [
    "EVERY",
    "GOOD_APP_TOKEN",
    "GOOD_TOKEN",
    "OPERATOR",
    "TRANSIENT",
    "UPLOAD",
    "VIEWER",
    "AnyFault",
    "Ephemeral",
    "FakeSlack",
    "Fault",
    "Faults",
    "File",
    "Posted",
    "Refused",
    "User",
    "problem_with",
]
