"""Waiting a while that ends early when there is something to wake up for."""

from __future__ import annotations

import asyncio


async def pause(event: asyncio.Event, seconds: float) -> None:
    """Until the event is set, or so long."""
    try:
        await asyncio.wait_for(event.wait(), seconds)
    except TimeoutError:
        return
