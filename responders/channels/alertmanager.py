"""Pages to Alertmanager, as Prometheus sends its alerts: ``POST /api/v2/alerts``.

An alert is its labels, and it is over when nobody has sent it for a while: so what is open is sent again
every minute, with an ``endsAt`` some minutes ahead, and what is resolved is sent with the time it was.
Sending an alert twice changes nothing. Every Alertmanager of a cluster gets every alert.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, Final

import aiohttp
import orjson
from pydantic import SecretStr

from responders.channels import http_channel
from responders.effects import Delivered, Outcome
from responders.pages.about import About
from responders.pages.page import Message
from responders.sender import Outgoing
from schemas.detection import Severity

NAME: Final = "alertmanager"
REPEAT_EVERY_S: Final = 60.0
"""Prometheus's ``resend-delay``; an alert holds for four of them, as Prometheus's do."""
_HOLDS: Final = timedelta(seconds=4 * REPEAT_EVERY_S)
_ALERTS_A_REQUEST: Final = 500


class AlertmanagerChannel:
    """One Alertmanager, or the members of one cluster."""

    repeat_every_s = REPEAT_EVERY_S

    def __init__(
        self,
        urls: Sequence[str],
        labels: Mapping[str, str],
        authorization: SecretStr | None,
        session: aiohttp.ClientSession,
        clock: Callable[[], datetime],
        timeout_s: float = http_channel.TIMEOUT_S,
    ) -> None:
        self.name = NAME
        self._urls = [url.rstrip("/") for url in urls]
        self._labels = dict(labels)
        self._authorization = authorization
        self._session = session
        self._clock = clock
        self._timeout_s = timeout_s

    async def send(self, page: Outgoing) -> Outcome:
        outcome = await self._post(self._alerts(page.message.about))
        return Delivered(self.name, page.message.about.incident_id) if _taken(outcome) else outcome

    async def edit(self, conversation: str, message_id: str, message: Message) -> Outcome:
        outcome = await self._post(self._alerts(message.about))
        return Delivered(conversation, message_id) if _taken(outcome) else outcome

    async def repeat(self, messages: Sequence[Message]) -> Outcome:
        """Send again what is open, so that Alertmanager does not take it for resolved."""
        alerts = [alert for message in messages for alert in self._alerts(message.about)]
        outcome: Outcome = Delivered()
        for start in range(0, len(alerts), _ALERTS_A_REQUEST):
            outcome = await self._post(alerts[start : start + _ALERTS_A_REQUEST])
            if not _taken(outcome):
                break
        return outcome

    async def check(self) -> str:
        """Every member must answer. Raises ChannelError."""
        for url in self._urls:
            outcome = await http_channel.request(
                self._session,
                "GET",
                f"{url}/api/v2/status",
                timeout_s=self._timeout_s,
                headers=self._headers(),
            )
            http_channel.checked(
                outcome, f"{self.name} {url}", "check WATCHKEEPER_ALERTMANAGER__URLS and that it runs"
            )
        return f"{len(self._urls)} answer" if len(self._urls) > 1 else f"{self._urls[0]} answers"

    async def _post(self, alerts: list[dict[str, Any]]) -> Outcome:
        """Taken as soon as one of the cluster took it: they tell each other what they have notified of."""
        body = orjson.dumps(alerts)
        outcomes = await asyncio.gather(
            *(
                http_channel.post(
                    self._session,
                    f"{url}/api/v2/alerts",
                    body,
                    self._headers(),
                    timeout_s=self._timeout_s,
                    explain=_reason,
                )
                for url in self._urls
            )
        )
        return next((each for each in outcomes if _taken(each)), outcomes[0])

    def _headers(self) -> dict[str, str]:
        return (
            {} if self._authorization is None else {"Authorization": self._authorization.get_secret_value()}
        )

    def _alerts(self, about: About) -> list[dict[str, Any]]:
        """The alert; and when it has become more severe, that the less severe one is over."""
        alerts = [self._alert(about, about.severity, about.open)]
        if about.opened_as != about.severity:
            alerts.append(self._alert(about, about.opened_as, firing=False))
        return alerts

    def _alert(self, about: About, severity: Severity, firing: bool) -> dict[str, Any]:
        """Labels never change while an incident lasts: Alertmanager would take it for another alert."""
        now = self._clock()
        ends_at = now + _HOLDS if firing else about.resolved_at or now
        annotations = {
            "summary": about.headline,
            "description": about.summary,
            "state": about.state,
            "containment": ", ".join(about.held),
            "acknowledged_by": about.acknowledged_by or "",
            "runbook": f"watchkeeper runbook {about.runbook}" if about.runbook else "",
            "session": about.session or "",
        }
        return {
            "labels": {
                **self._labels,
                "alertname": "WatchkeeperIncident",
                "incident": about.incident_id,
                "tenant": about.tenant,
                "agent": about.agent,
                "detector": about.detector,
                "severity": severity,
            },
            "annotations": {name: value for name, value in annotations.items() if value},
            "startsAt": about.opened_at.isoformat(),
            "endsAt": ends_at.isoformat(),
        }


def _taken(outcome: Outcome) -> bool:
    return isinstance(outcome, Delivered)


def _reason(answer: bytes) -> str:
    """Alertmanager answers with a JSON string, or with ``{"code", "message"}``."""
    try:
        said = json.loads(answer)
    except ValueError:
        return ""
    return str(said.get("message", "") if isinstance(said, dict) else said)[:300]
