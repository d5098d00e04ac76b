"""Pages to PagerDuty by its Events API v2: one alert an incident, triggered, acknowledged and resolved as the
incident is.

The incident's id is the ``dedup_key``: an event that is sent twice is one alert, so there is nothing to look
for after an unclear answer. PagerDuty does not notify again for an alert that somebody has acknowledged
there: for an incident that needs a person again it is resolved, and begins anew.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Final, Literal

import aiohttp
import orjson
from pydantic import SecretStr

from responders.channels import http_channel
from responders.effects import Delivered, Outcome, Retryable
from responders.pages.about import About
from responders.pages.page import Message
from responders.sender import Outgoing
from schemas.detection import Severity

Action = Literal["trigger", "acknowledge", "resolve"]
PagerDutySeverity = Literal["critical", "error", "warning", "info"]
_SUMMARY_CHARS: Final = 1024
_PROBE: Final = "watchkeeper:probe"


class PagerDutyChannel:
    """One integration (routing key) of one PagerDuty service."""

    def __init__(
        self,
        name: str,
        routing_key: SecretStr,
        base_url: str,
        severities: Mapping[Severity, PagerDutySeverity],
        session: aiohttp.ClientSession,
        timeout_s: float = http_channel.TIMEOUT_S,
    ) -> None:
        self.name = name
        self._routing_key = routing_key
        self._url = f"{base_url.rstrip('/')}/v2/enqueue"
        self._severities = severities
        self._session = session
        self._timeout_s = timeout_s

    async def send(self, page: Outgoing) -> Outcome:
        """A page that comes late neither wakes anybody for what is over nor for what somebody is on."""
        about = page.message.about
        known = about.acknowledged_at is not None and about.acknowledged_at >= page.requested_at
        action: Action = "trigger" if about.open else "resolve"
        if about.open and about.attended and known:
            action = "acknowledge"
        if action == "trigger" and about.calls_again and not page.in_doubt:
            ended = await self._event("resolve", about)
            if isinstance(ended, Retryable):
                return Retryable(ended.reason, ended.after_ms)  # resolved twice is resolved
        outcome = await self._event(action, about)
        return Delivered(self.name, _dedup_key(about)) if isinstance(outcome, Delivered) else outcome

    async def edit(self, conversation: str, message_id: str, message: Message) -> Outcome:
        """Follow the incident; what changes nothing for PagerDuty is not sent."""
        about = message.about
        if about.open and not about.attended:
            return Delivered(conversation, message_id)
        outcome = await self._event("acknowledge" if about.open else "resolve", about)
        return Delivered(conversation, message_id) if isinstance(outcome, Delivered) else outcome

    async def check(self) -> str:
        """Acknowledge an alert that does not exist: PagerDuty checks the key and does nothing.

        Raises:
            ChannelError: it cannot be reached, or does not take the key.
        """
        outcome = await self._post({"event_action": "acknowledge", "dedup_key": _PROBE})
        http_channel.checked(
            outcome, self.name, "check the routing key of the service's Events API v2 integration"
        )
        return "PagerDuty takes the routing key"

    async def _event(self, action: Action, about: About) -> Outcome:
        event: dict[str, Any] = {"event_action": action, "dedup_key": _dedup_key(about)}
        if action == "trigger":
            event |= {"client": "Watchkeeper", "payload": self._payload(about)}
        return await self._post(event)

    async def _post(self, event: dict[str, Any]) -> Outcome:
        key = self._routing_key.get_secret_value()

        def explain(answer: bytes) -> str:
            return _reason(answer).replace(key, "…")

        body = orjson.dumps({"routing_key": key, **event})
        return await http_channel.post(
            self._session, self._url, body, {}, timeout_s=self._timeout_s, explain=explain
        )

    def _payload(self, about: About) -> dict[str, Any]:
        return {
            "summary": f"{about.headline}: {about.summary}"[:_SUMMARY_CHARS],
            "source": f"{about.tenant}/{about.agent}",
            "severity": self._severities.get(about.severity, about.severity),
            "timestamp": about.opened_at.isoformat(),
            "component": about.agent,
            "group": about.tenant,
            "class": about.detector,
            "custom_details": about.plain(),
        }


def _dedup_key(about: About) -> str:
    return f"watchkeeper:{about.incident_id}"


def _reason(answer: bytes) -> str:
    """PagerDuty's own words for what is wrong with an event."""
    try:
        said = json.loads(answer)
    except ValueError:
        return ""
    if not isinstance(said, dict):
        return ""
    errors = said.get("errors") or [said.get("message", "")]
    return "; ".join(str(each) for each in errors)[:300]
