"""What Slack sends when somebody presses a button or types a command: from the payload to a request. Pure.

Over HTTP and over Socket Mode the payloads are the same. Whatever is no request of ours (a link, another
app's button, a modal) is None.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import urlsplit

from responders.pages import wording
from responders.slack import buttons
from responders.slack.buttons import Pressed

COMMAND: Final = "/watchkeeper"
_TEXT_CHARS: Final = 4_000
_NAME_CHARS: Final = 80
_HOOKS: Final = frozenset({"https://hooks.slack.com", "https://hooks.slack-gov.com"})
_PATH: Final = re.compile(r"/[A-Za-z0-9/_.-]{1,500}")


@dataclass(frozen=True, slots=True)
class Person:
    """Who it was, as Slack says: the id is the workspace's, the name may change."""

    user_id: str
    name: str = ""

    @property
    def signed(self) -> str:
        """As the log names them: ``ana (slack:U024BE7LH)``."""
        return f"{self.name} (slack:{self.user_id})" if self.name else f"slack:{self.user_id}"

    @property
    def names(self) -> tuple[str, ...]:
        """What a role may know them by."""
        return (self.user_id, self.name) if self.name else (self.user_id,)


@dataclass(frozen=True, slots=True)
class Origin:
    """Where it comes from. None: the payload does not say."""

    team: str | None = None
    user_team: str | None = None
    enterprise: str | None = None
    app: str | None = None


@dataclass(frozen=True, slots=True)
class Press:
    """A button of ours. ``message`` is the conversation and the message it stands under."""

    person: Person
    origin: Origin
    trigger: str
    response_url: str
    deed: Pressed
    value: str
    message: tuple[str, str] | None


@dataclass(frozen=True, slots=True)
class Typed:
    """A slash command; ``text`` is what follows its name."""

    person: Person
    origin: Origin
    trigger: str
    response_url: str
    text: str


Request = Press | Typed


@dataclass(frozen=True, slots=True)
class Answer:
    """What to tell the person, and nobody else. ``text`` is mrkdwn, escaped."""

    text: str
    blocks: tuple[dict[str, Any], ...] = ()

    def payload(self) -> dict[str, Any]:
        """As Slack takes it, in the answer to a request or at its response URL."""
        said: dict[str, Any] = {
            "response_type": "ephemeral",
            "replace_original": False,
            "text": self.text,
        }
        return said | ({"blocks": list(self.blocks)} if self.blocks else {})


@dataclass(frozen=True, slots=True)
class Workspace:
    """Whose token it is. What is None is not known, and then not compared: a request is signed for the app,
    or came over its own connection, in any case.
    """

    team: str | None = None
    enterprise: str | None = None
    app: str | None = None

    def is_foreign(self, origin: Origin) -> bool:
        """Whether the request is another workspace's or another app's."""
        if self.app is not None and origin.app is not None and origin.app != self.app:
            return True
        if self.team is None:
            return False
        ours = {self.team, self.enterprise} - {None}
        teams = {origin.team, origin.user_team} - {None}
        if self.enterprise is not None and origin.enterprise == self.enterprise:
            return False
        return not teams <= ours


def request_of(payload: Mapping[str, Any]) -> Request | None:
    """The request in an interaction's payload or a slash command's fields."""
    if "command" in payload:
        return _typed(payload)
    return _press(payload) if payload.get("type", "block_actions") == "block_actions" else None


def _press(payload: Mapping[str, Any]) -> Press | None:
    user, pressed = _object(payload, "user"), payload.get("actions")
    person = _person(user.get("id"), user.get("username") or user.get("name"))
    ours = [
        (deed, _text(action.get("value"), 2_000))
        for action in (pressed if isinstance(pressed, list) else [])
        if isinstance(action, dict) and (deed := buttons.deed_of(_text(action.get("action_id"), 255)))
    ]
    if person is None or len(ours) != 1:  # Slack sends one press at a time
        return None
    container = _object(payload, "container")
    place = (_text(container.get("channel_id"), 64), _text(container.get("message_ts"), 64))
    origin = Origin(
        team=_known(_object(payload, "team").get("id")),
        user_team=_known(user.get("team_id")),
        enterprise=_known(_object(payload, "enterprise").get("id")),
        app=_known(payload.get("api_app_id")),
    )
    (deed, value) = ours[0]
    return Press(
        person,
        origin,
        _text(payload.get("trigger_id"), 256),
        _text(payload.get("response_url"), 1_000),
        deed,
        value,
        place if all(place) else None,
    )


def _typed(payload: Mapping[str, Any]) -> Typed | None:
    person = _person(payload.get("user_id"), payload.get("user_name"))
    if person is None:
        return None
    origin = Origin(
        team=_known(payload.get("team_id")),
        enterprise=_known(payload.get("enterprise_id")),
        app=_known(payload.get("api_app_id")),
    )
    return Typed(
        person,
        origin,
        _text(payload.get("trigger_id"), 256),
        _text(payload.get("response_url"), 1_000),
        _text(payload.get("text"), _TEXT_CHARS),
    )


def may_answer_at(url: str, base_url: str) -> bool:
    """Whether an answer may go to this address: it comes with a payload, and leads to Slack, or to where the
    Web API is. Nothing is sent anywhere else.

    >>> may_answer_at("https://hooks.slack.com/actions/T1/2/x", "https://slack.com/api/")
    True
    >>> may_answer_at("https://hooks.slack.com@evil.example/actions", "https://slack.com/api/")
    False
    """
    for origin in (*_HOOKS, _origin(base_url)):
        if url.startswith(f"{origin}/") and _PATH.fullmatch(url.removeprefix(origin)):
            return True
    return False


def _origin(url: str) -> str:
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc}"


def _person(user_id: object, name: object) -> Person | None:
    if not isinstance(user_id, str) or not re.fullmatch(r"[A-Za-z0-9_-]{1,64}", user_id):
        return None
    return Person(user_id, wording.one_line(_text(name, _NAME_CHARS)))


def _object(payload: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    value = payload.get(name)
    return value if isinstance(value, dict) else {}


def _text(value: object, limit: int) -> str:
    return value[:limit] if isinstance(value, str) else ""


def _known(value: object) -> str | None:
    return value if isinstance(value, str) and value else None
