"""What kind of failure an error type names: the vocabulary differs by provider, the kinds do not."""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Final, Literal, get_args

from schemas.event import LlmCall, ToolCall

MAX_WAIT_MS: Final = 30_000.0

Kind = Literal["credentials", "overload", "other"]
KINDS: Final[tuple[Kind, ...]] = get_args(Kind)

_CREDENTIALS = re.compile(
    r"auth|credential|forbidden|permission|denied|api.?key|token_?expired|\b40[13]\b", re.I
)
_OVERLOAD = re.compile(
    r"rate.?limit|too.?many|throttl|overload|quota|exhausted|unavailable|\b(429|503|529)\b", re.I
)
_SERVER = re.compile(r"server.?error|internal|time.?out|timed.?out|connection|gateway|\b5\d\d\b", re.I)


def kind_of(error_type: str) -> Kind:
    """The kind of failure; overload wins where a name says both.

    >>> kind_of("invalid_api_key"), kind_of("429"), kind_of("timeout")
    ('credentials', 'overload', 'other')
    """
    if _OVERLOAD.search(error_type):
        return "overload"
    return "credentials" if _CREDENTIALS.search(error_type) else "other"


def is_the_others(error_type: str) -> bool:
    """Whether whoever was called is at fault, or too busy: to wait may help, and to stop the caller does not.

    >>> [is_the_others(each) for each in ("server_error", "ReadTimeout", "429", "502", "invalid_request")]
    [True, True, True, True, False]
    """
    return bool(_OVERLOAD.search(error_type) or _SERVER.search(error_type))


@lru_cache(maxsize=1_024)
def is_throttled(error_type: str | None) -> bool:
    """Whether the failure was the provider's refusal to do more."""
    return error_type is not None and kind_of(error_type) == "overload"


def patience_ms(backoff_ms: float, failures: int) -> float:
    """What a client with exponential backoff from `backoff_ms` up to 30 s and full jitter waits, in the mean,
    over so many failures.

    >>> patience_ms(500, 3)
    750.0
    """
    waits_ms = (min(backoff_ms * 2.0 ** min(wait, 20), MAX_WAIT_MS) for wait in range(failures - 1))
    return sum(waits_ms) / 2


def callee(event: ToolCall | LlmCall) -> str:
    """The tool or the model that was called."""
    return event.tool if event.type == "tool.call" else event.request_model


def call_of(event: ToolCall | LlmCall, kind: Kind) -> str:
    """What a retry is one of. Arguments tell calls apart only where another argument might have helped."""
    arguments = event.arguments_hash if kind == "other" and event.type == "tool.call" else ""
    return "\x1f".join((event.agent, event.type, callee(event), kind, arguments))
