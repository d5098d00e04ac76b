"""store, bus → the picture of an incident: what its session did, or how its agent behaved."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol, runtime_checkable

import structlog
from aiokafka.errors import KafkaError

from responders.effects import Outcome
from responders.incident import Incident
from responders.picture.moments import moments_of
from schemas.detection import Detection

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Picture:
    """``key`` is that of its page, to know it again; ``title`` is also for those who cannot see it."""

    key: str
    title: str
    png: bytes


@runtime_checkable
class ShowsPictures(Protocol):
    """A channel that can put a picture beside a page it has delivered."""

    async def show(self, conversation: str, message_id: str, picture: Picture, in_doubt: bool) -> Outcome:
        """``in_doubt``: it may be there already, from an earlier attempt."""


class DrawsPictures(Protocol):
    """Where pictures come from."""

    async def of(self, incident: Incident, key: str) -> Picture | None:
        """The picture of the detection that a person should read first; None when there is none to draw."""


class Pictures:
    """Draws what is on the bus. Raises nothing that the bus can cause: then there is no picture."""

    def __init__(self, options: Mapping[str, Any]) -> None:
        self._options = options
        self._drawing = asyncio.Lock()  # matplotlib is not made for several threads

    async def of(self, incident: Incident, key: str) -> Picture | None:
        detection = incident.worst
        if detection is None:
            return None
        try:
            png = await self._png(incident, detection)
        except (KafkaError, OSError) as error:
            _log.warning("no picture", incident=incident.incident_id, reason=type(error).__name__)
            return None
        return None if png is None else Picture(key, detection.summary, png)

    async def _png(self, incident: Incident, detection: Detection) -> bytes | None:
        # matplotlib takes half a second and sixty megabytes: only who draws pays for it.
        from responders.picture import reading, session_plot, signal_plot

        moments = moments_of(incident, detection)
        if detection.session is not None:
            events = await reading.session(self._options, detection)
            draw = partial(session_plot.draw, detection, events, moments)
        else:
            windows = await reading.windows(self._options, detection)
            draw = partial(signal_plot.draw, detection, windows, moments)
        async with self._drawing:
            return await asyncio.to_thread(draw)
