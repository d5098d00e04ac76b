"""Reliability test 23: changed, forged and replayed commands. None is accepted, and each is reported.

Every mutation starts from commands that are genuine, as they lie on the topic for anybody to copy, and is
made without a key that is trusted for what it says. The register must not move, and must say what it refused.
No store takes part: a gate knows the topic and the trusted keys, and nothing else.
"""

from __future__ import annotations

import json
import random
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from schemas.control import CONTROL_ACK
from tests.client.commands import (
    ENGINE,
    FUTURE,
    LATER,
    NOW_MS,
    OPERATOR,
    PAST,
    STRANGER,
    Signer,
    fields,
    raw,
    signed,
)
from tests.reliability.counts import count
from watchkeeper_client import Decision, TrustedKeysFile, WantedState
from watchkeeper_client.control import MODES
from watchkeeper_client.spending import Call

MUTATIONS: Final = count(3_000, 100_000)
SEED: Final = 23
HELD: Final = ("shop", "billing", "a/b", "ünïcode")
RETIRED: Final = Signer("engine-0", "engine", Ed25519PrivateKey.from_private_bytes(b"r" * 32))
NEWEST: Final = 1_000

Fields = dict[str, Any]


@dataclass
class Forger:
    """Makes mutations, with epochs newer than those in force unless it replays."""

    dice: random.Random = field(default_factory=lambda: random.Random(SEED))

    def lifting(self) -> Fields:
        """A run that an operator really signed, for an agent of whom nobody wants anything here."""
        epoch = NEWEST + self.dice.randrange(1, 10**6)
        return signed(fields(epoch=epoch, mode="run", agent="other", expires_at=FUTURE), OPERATOR)

    def halting(self) -> Fields:
        epoch = NEWEST + self.dice.randrange(1, 10**6)
        return signed(fields(epoch=epoch, mode="halt", agent="other"), ENGINE)

    def key(self) -> bytes:
        """Another key's name on it, or a genuine name over a signature of one's own."""
        command = self.dice.choice((self.lifting, self.halting))()
        if self.dice.random() < 0.5:
            names = [
                ENGINE.key_id,
                OPERATOR.key_id,
                STRANGER.key_id,
                RETIRED.key_id,
                "",
                "operator-9",
                7,
                None,
            ]
            names.remove(command["key_id"])
            return _json({**command, "key_id": self.dice.choice(names)})
        own = Signer(self.dice.choice((ENGINE.key_id, OPERATOR.key_id)), "operator", STRANGER.key)
        return raw(self._unsigned(command), self.dice.choice((own, STRANGER, RETIRED)))

    def epoch(self) -> bytes:
        old = self.lifting()
        new = self.dice.choice(
            (old["epoch"] + self.dice.randrange(1, 10**6), -1, 2**53, 1.5, "8", None, True, 0)
        )
        return _json({**old, "epoch": new})

    def expiry(self) -> bytes:
        """A term that is over, or one that was lengthened or taken away."""
        if self.dice.random() < 0.3:
            expired = fields(epoch=NEWEST + 1, mode="run", agent=self.dice.choice(HELD), expires_at=PAST)
            return raw(expired, OPERATOR)
        return _json({**self.lifting(), "expires_at": self.dice.choice((LATER, None, "never", 0, PAST))})

    def target(self) -> bytes:
        targets: list[Any] = [{"tenant": "default", "agent": agent} for agent in (*HELD, "*")]
        targets += [
            {"tenant": "*", "agent": "*"},
            {"agent": "shop", "session": "s"},
            {"agent": ""},
            "shop",
            None,
        ]
        return _json({**self.lifting(), "target": self.dice.choice(targets)})

    def state(self) -> bytes:
        """Less than what was signed for; also by the engine's own key, which may not lift."""
        mode, agent = self.dice.choice(MODES[:-1]), self.dice.choice(HELD)
        if self.dice.random() < 0.5:
            return raw(fields(epoch=NEWEST + 1, mode=mode, agent=agent), ENGINE)
        return _json(
            {**self.halting(), "state": {"mode": mode}, "target": {"tenant": "default", "agent": agent}}
        )

    def replay(self) -> bytes:
        """What was genuine once: older than what is in force, or signed with a key that was retired."""
        agent, mode = self.dice.choice(HELD), self.dice.choice(MODES)
        if self.dice.random() < 0.5:
            return raw(fields(epoch=self.dice.randrange(NEWEST), mode=mode, agent=agent), OPERATOR)
        return raw(fields(epoch=NEWEST + 1, mode=mode, agent=agent), RETIRED)

    def bytes_(self) -> bytes:
        """A bit turned anywhere, a piece cut out or put in twice; not a second space, which says nothing."""
        command = self.lifting()
        while _reads_as(mutated := self._damaged(_json(command)), command):
            continue
        return mutated

    def _damaged(self, whole: bytes) -> bytes:
        good = bytearray(whole)
        start = self.dice.randrange(len(good))
        end = min(len(good), start + self.dice.randrange(1, 40))
        match self.dice.randrange(3):
            case 0:
                good[start] ^= 1 << self.dice.randrange(8)
            case 1:
                del good[start:end]
            case _:
                good[start:start] = good[start:end]
        return bytes(good)

    def _unsigned(self, command: Fields) -> Fields:
        return {
            name: value for name, value in command.items() if name not in {"key_id", "signature", "schema"}
        }


def _json(value: object) -> bytes:
    return json.dumps(value, ensure_ascii=False).encode()


def _reads_as(raw_command: bytes, command: Fields) -> bool:
    try:
        return bool(json.loads(raw_command) == command)
    except ValueError:
        return False


def _register(folder: Path) -> WantedState:
    """Everybody held by a halt of NEWEST, after a rotation in which RETIRED lost its trust."""
    path = folder / "trusted.json"
    path.write_text(json.dumps({each.key_id: each.entry for each in (RETIRED, ENGINE, OPERATOR)}))
    state = WantedState(TrustedKeysFile(path), enforcement_point="test")
    for agent in HELD:
        assert state.apply(raw(fields(epoch=5, agent=agent), RETIRED), NOW_MS)["result"] == "applied"
        assert state.apply(raw(fields(epoch=NEWEST, agent=agent), ENGINE), NOW_MS)["result"] == "applied"
    path.write_text(json.dumps({each.key_id: each.entry for each in (ENGINE, OPERATOR)}))
    return state


def _decisions(state: WantedState) -> list[Decision]:
    agents = (*HELD, "other", "free")
    return [state.decide("default", agent, "s", Call(), NOW_MS) for agent in agents]


def test_no_mutated_command_is_accepted_and_all_are_reported(tmp_path: Path) -> None:
    state, forger = _register(tmp_path), Forger()
    before = _decisions(state)
    assert [decision.denied for decision in before] == ["halt"] * len(HELD) + [None, None]
    kinds: dict[str, Callable[[], bytes]] = {
        "key": forger.key,
        "epoch": forger.epoch,
        "expiry": forger.expiry,
        "target": forger.target,
        "state": forger.state,
        "replay": forger.replay,
        "bytes": forger.bytes_,
    }
    reported: Counter[tuple[str, str]] = Counter()
    for number in range(MUTATIONS):
        kind = list(kinds)[number % len(kinds)]
        mutated = kinds[kind]()
        ack = CONTROL_ACK.validate_python(state.apply(mutated, NOW_MS))
        assert ack.result == "refused", (kind, mutated)
        assert ack.reason
        reported[kind, ack.reason.split(":")[0]] += 1
        if number % 100 == 0:
            assert _decisions(state) == before, (kind, mutated)
    assert _decisions(state) == before
    assert reported.total() == MUTATIONS
    # Each kind fails for its own reason too, and not only because of how it was put together.
    expected = {
        ("key", "unknown_key"),
        ("key", "bad_signature"),
        ("epoch", "bad_signature"),
        ("expiry", "expired"),
        ("expiry", "bad_signature"),
        ("target", "bad_signature"),
        ("state", "not_operator"),
        ("state", "lifts_without_operator"),
        ("replay", "older_epoch"),
        ("replay", "unknown_key"),
        ("bytes", "malformed"),
        ("bytes", "bad_signature"),
    }
    assert expected <= set(reported), reported
