"""foreign_memory: what one user left behind is read in another user's session.

Statistic: none; an invariant, checked on the retrieval itself. Unit: retrievals. Source: R 16 (one user's
misleading session retrieved for another); the contract of `retrieval`: `owner` is the user a memory belongs
to, so it is one of the users the session was started for. A session that names no user is not judged, nor
is memory without an owner: that is shared. A session of several users (each `session.start` may name one)
may read the memory of each; one of 32 or more cannot be judged, which is a warning. Each owner
is reported once a session.

>>> from detectors.testing import events, run
>>> start = dict(type="session.start", user="u1")
>>> read = dict(type="retrieval", index="memory", documents=2)
>>> run(ForeignMemory(), events([start, read, dict(read, owner="u1"), dict(read, owner="u2")]))
[('critical', 'e3', 1.0)]
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import ClassVar, Final

import msgspec

from detectors.base import HALT, NOTHING, SessionContext, name_hash
from detectors.bounded import DIGEST_BYTES, remember
from schemas.detection import Detection
from schemas.event import Retrieval, SessionStart

MAX_USERS: Final = 32
MAX_OWNERS: Final = 8
MAX_BYTES: Final = DIGEST_BYTES * MAX_USERS
MANY: Final = bytes(DIGEST_BYTES)


@dataclass(frozen=True, slots=True)
class ForeignMemory:
    """Has no parameters."""

    name: ClassVar[str] = "foreign_memory"
    version: ClassVar[int] = 1
    wants: ClassVar[tuple[str, ...]] = ("session.start", "retrieval")

    class State(msgspec.Struct, omit_defaults=True):
        """Hashes, joined: of the session's users and of the owners reported."""

        users: bytes = b""
        reported: bytes = b""

    def update(
        self, state: State, event: SessionStart | Retrieval, context: SessionContext
    ) -> Iterable[Detection]:
        if event.type == "session.start":
            if event.user is not None and (user := name_hash(event.user)) not in state.users:
                state.users = remember(state.users, user, MAX_USERS)
            return NOTHING
        if event.owner is None or not event.documents or not state.users:
            return NOTHING
        several = len(state.users) >= MAX_BYTES
        owner = name_hash(event.owner)
        if owner in state.users or (MANY if several else owner) in state.reported:
            return NOTHING
        state.reported = remember(state.reported, MANY if several else owner, MAX_OWNERS)
        if several:
            return (self._many(event, context),)
        return (
            context.detection(
                self,
                trigger=event.owner,
                severity="critical",
                metric="foreign_retrievals",
                observed=1,
                expected=0,
                threshold=0,
                sample_size=event.documents,
                summary=f"{event.agent} read memory of user {event.owner} from {event.index} in a session of "
                f"another user.",
                suggested=HALT,
            ),
        )

    def _many(self, event: Retrieval, context: SessionContext) -> Detection:
        return context.detection(
            self,
            trigger="",
            severity="warning",
            metric="users",
            observed=MAX_USERS,
            threshold=MAX_USERS,
            sample_size=event.documents,
            summary=f"{event.agent} reads users' memory from {event.index} in a session of {MAX_USERS} or "
            "more users: whether it may is not checked. Start a session for each user.",
        )
