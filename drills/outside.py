"""The enforcement point outside the agent, asked as a proxy asks it: `GET /v1/allow`."""

from __future__ import annotations

import asyncio
import contextlib
from datetime import UTC, datetime
from typing import Final

import aiohttp

from schemas.control import Target

ASK_EVERY_S: Final = 0.1
ANSWER_WITHIN_S: Final = 2.0


class Outside:
    """Use as an async context manager. Without an address nobody is asked.

    An answer that does not come counts as no, as in a proxy that fails closed.
    """

    def __init__(self, address: str | None) -> None:
        self._address = address
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self.denied_at: dict[str, datetime] = {}
        """By key of the target that is watched: when a call of it was first denied."""

    async def __aenter__(self) -> Outside:
        self._session = aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=ANSWER_WITHIN_S))
        return self

    async def __aexit__(self, *_: object) -> None:
        for task in self._tasks.values():
            task.cancel()
        await asyncio.gather(*self._tasks.values(), return_exceptions=True)
        await self._session.close()

    def watch(self, target: Target) -> None:
        """Ask about the target again and again, until a call of it is denied."""
        if self._address is not None and target.key not in self._tasks:
            self._tasks[target.key] = asyncio.create_task(self._until_denied(target))

    async def _until_denied(self, target: Target) -> None:
        asking = self._asking(target.tenant, target.agent, target.session)
        while await self._allowed(asking, unanswered=True):  # noqa: ASYNC110  another process changes it
            await asyncio.sleep(ASK_EVERY_S)
        self.denied_at[target.key] = datetime.now(UTC)

    async def allowed(self, tenant: str, agent: str, session: str, tool: str | None) -> bool:
        """Whether the call may be made."""
        asking = self._asking(tenant, agent, session)
        return await self._allowed({**asking, **({"tool": tool} if tool else {})}, unanswered=False)

    @staticmethod
    def _asking(tenant: str, agent: str, session: str | None) -> dict[str, str]:
        return {"tenant": tenant, "agent": agent, **({"session": session} if session else {})}

    async def _allowed(self, asking: dict[str, str], *, unanswered: bool) -> bool:
        if self._address is None:
            return unanswered
        with contextlib.suppress(aiohttp.ClientError, TimeoutError):
            async with self._session.get(f"{self._address}/v1/allow", params=asking) as answer:
                return answer.status == 200
        return unanswered
