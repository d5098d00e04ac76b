"""Incidents, agents and containment by hand: `/v1/incidents`, `/v1/agents`, `/v1/control`."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import datetime
from typing import Any, TypeVar

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from api.bodies import json_object
from api.errors import ApiError
from api.orders import order_of
from api.ports import Actions, Incidents, NoIncidentError
from api.security import Access
from responders.containment import TargetError
from responders.decide import ActionRefused, NoSuchIncident
from responders.store.database import StoreError

Result = TypeVar("Result")

MAX_BODY_BYTES = 16 * 1024
DEFAULT_LIMIT = 100
MAX_LIMIT = 1_000
_PERSON = "http"


class IncidentRoutes:
    """The handlers. Whatever changes something asks for the token first."""

    def __init__(self, incidents: Incidents, actions: Actions, access: Access) -> None:
        self._incidents = incidents
        self._actions = actions
        self._access = access

    async def list_incidents(self, request: Request) -> Response:
        """``{"incidents": [...]}``, newest first; ``?limit=``."""
        text = request.query_params.get("limit", str(DEFAULT_LIMIT))
        if not (text.isdecimal() and 1 <= int(text) <= MAX_LIMIT):
            raise ApiError(400, "bad_limit", f"limit must be a number from 1 to {MAX_LIMIT}")
        found = await in_thread(lambda: self._incidents.incidents(int(text)))
        return JSONResponse({"incidents": found})

    async def incident(self, request: Request) -> Response:
        """One incident with its log; ``?at=`` shows it as it was at a time."""
        incident_id = _incident_id(request)
        at = _time(request.query_params.get("at"))
        return JSONResponse(await in_thread(lambda: self._incidents.incident(incident_id, at)))

    async def agents(self, request: Request) -> Response:
        """``{"agents": [...]}``."""
        return JSONResponse({"agents": await in_thread(self._incidents.agents)})

    async def acknowledge(self, request: Request) -> Response:
        """``POST /v1/incidents/{id}/ack``, body optional: ``{"person": name}``."""
        return await self._act(request, self._actions.acknowledge)

    async def resolve(self, request: Request) -> Response:
        """``POST /v1/incidents/{id}/resolve``, body optional: ``{"person": name}``."""
        return await self._act(request, self._actions.resolve)

    async def control(self, request: Request) -> Response:
        """``{"action", "target", "reason", "person"}`` and what the action takes (`api.orders.TAKES`)."""
        self._access.require_token(request)
        fields = await json_object(request, MAX_BODY_BYTES)
        order = order_of(fields)
        person = _person(fields)
        return JSONResponse(await in_thread(lambda: self._actions.control(order, person)), 202)

    async def _act(self, request: Request, action: Callable[[str, str], Any]) -> Response:
        self._access.require_token(request)
        person = _person(await json_object(request, MAX_BODY_BYTES, optional=True))
        incident_id = _incident_id(request)
        return JSONResponse(await in_thread(lambda: action(incident_id, person)))


async def in_thread(work: Callable[[], Result]) -> Result:
    """Runs database work beside the loop; what it refuses becomes an answer.

    Raises:
        ApiError: 400 bad target, 404 no incident, 409 refused, 503 no database.
    """
    try:
        return await asyncio.to_thread(work)
    except (NoIncidentError, NoSuchIncident) as error:
        raise ApiError(404, "no_incident", str(error)) from None
    except TargetError as error:
        raise ApiError(400, "bad_target", str(error)) from None
    except ActionRefused as error:
        raise ApiError(409, "refused", str(error)) from None
    except StoreError as error:
        raise ApiError(503, "store_unavailable", str(error), {"Retry-After": "5"}) from None


def _incident_id(request: Request) -> str:
    """The id in the path, which no store need look for when it cannot be one."""
    incident_id: str = request.path_params["incident_id"]
    if len(incident_id) > 256 or not incident_id.isprintable():
        raise ApiError(404, "no_incident", "this is no incident id: GET /v1/incidents lists them")
    return incident_id


def _person(fields: dict[str, Any]) -> str:
    person = fields.get("person", _PERSON)
    if not isinstance(person, str) or not 1 <= len(person) <= 256:
        raise ApiError(400, "bad_person", "person must be a name of 1 to 256 characters")
    return person


def _time(text: str | None) -> datetime | None:
    if text is None:
        return None
    try:
        at = datetime.fromisoformat(text.replace(" ", "+"))  # a plus sign that was not escaped
    except ValueError:
        at = None
    if at is None or at.tzinfo is None:
        raise ApiError(400, "bad_time", "at must be a time with an offset, like 2026-01-31T12:00:00Z")
    return at
