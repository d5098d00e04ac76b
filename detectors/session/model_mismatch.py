"""model_mismatch: another model answers than the one that was asked for, or that answered before.

Statistic: none; the names are compared. Unit: calls. Source: R 28, a provider changed the model without a
word. A name is a family and a snapshot: what the provider or region puts before it and a date, build,
``latest`` or throughput suffix are taken off (`gpt-4o-2024-08-06` is a snapshot of `gpt-4o`). Four rules,
each a warning, once a session for each pair of names:

- both names are of families with a known beginning, and of different ones. An alias of one's own (a
  deployment, a router) is answered by any family, so only the third rule judges
  it.
- the snapshot asked for is not the one that answered.
- the request was always answered by other models when all was well (the agent's profile).
- without a profile: the request was answered by another model earlier in the session.

>>> from detectors.testing import events, run
>>> call = dict(type="llm.call", input_tokens=9, output_tokens=9, status="ok", request_model="gpt-4o")
>>> answers = ("gpt-4o", "gpt-4o-2024-08-06", "gpt-4o-mini-2024-07-18", "gpt-4o-2024-08-06")
>>> run(ModelMismatch(), events(dict(call, response_model=answer) for answer in answers))
[('warning', 'e2', 1.0)]
>>> answers = ("gpt-4o-2024-08-06", "gpt-4o-2024-08-06", "gpt-4o-2024-11-20")
>>> run(ModelMismatch(), events(dict(call, response_model=answer) for answer in answers))
[('warning', 'e2', 1.0)]
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from typing import ClassVar, Final

import msgspec

from detectors.base import NOTHING, SessionContext, name_hash
from detectors.bounded import DIGEST_BYTES
from schemas.detection import Detection
from schemas.event import LlmCall

MAX_MODELS: Final = 8
MAX_REPORTED: Final = 8
_KNOWN: Final = re.compile(
    r"(gpt|o[1-9]|chatgpt|claude|gemini|gemma|llama|mistral|mixtral|ministral|codestral|magistral|command|qwen"
    r"|deepseek|grok|phi|nova|titan|jamba|glm|kimi)\b"
)
_BEFORE: Final = re.compile(
    r"^.*/|^((us|eu|apac|global|jp|au|ca)\.)?(anthropic|meta|amazon|mistral|cohere|ai21|deepseek)\."
)
# What a provider's own alias is answered by, under another name.
_ALIASES: Final = {
    "gpt-4-turbo-preview": "gpt-4",
    "claude-sonnet-4-0": "claude-sonnet-4",
    "claude-opus-4-0": "claude-opus-4",
}
_SNAPSHOT: Final = re.compile(
    r"(?:[-@](\d{4}-?\d{2}-?\d{2}|\d{2}-\d{2}|\d{2}-\d{4}|\d{3,4})|[-:@]latest|-preview|-exp|-v\d+(:\d+)?(?=$)|:\d+k?)+$"
)


@lru_cache(maxsize=4_096)
def family(model: str) -> tuple[str, str]:
    """The family and the snapshot of a model's name; the snapshot is empty where the name gives none.

    >>> family("us.anthropic.claude-3-5-sonnet-20241022-v2:0"), family("openai/gpt-4o")
    (('claude-3-5-sonnet', '20241022'), ('gpt-4o', ''))
    """
    name = _BEFORE.sub("", model.lower(), count=1)
    name = _ALIASES.get(name, name)
    end = _SNAPSHOT.search(name)
    if end is None or end.start() == 0:
        return name, ""
    return name[: end.start()], "".join(re.findall(r"\d{2,}", end[0].partition("-v")[0]))


@dataclass(frozen=True, slots=True)
class ModelMismatch:
    """Has no parameters."""

    name: ClassVar[str] = "model_mismatch"
    version: ClassVar[int] = 1
    wants: ClassVar[tuple[str, ...]] = ("llm.call",)

    class State(msgspec.Struct, omit_defaults=True):
        """`answered` is, by the hash of a name asked for, who answered first."""

        answered: dict[bytes, str] = {}
        reported: bytes = b""

    def update(self, state: State, event: LlmCall, context: SessionContext) -> Iterable[Detection]:
        answer = event.response_model
        if answer is None or answer == event.request_model:
            return NOTHING
        what = self._mismatch(state, event, answer, context)
        if what is None:
            return NOTHING
        pair = name_hash(f"{event.request_model}\x1f{answer}")
        if pair in state.reported or len(state.reported) >= DIGEST_BYTES * MAX_REPORTED:
            return NOTHING
        state.reported += pair
        return (
            context.detection(
                self,
                trigger=f"{event.request_model}\x1f{answer}",
                severity="warning",
                metric="mismatched_calls",
                observed=1,
                expected=0,
                threshold=0,
                sample_size=context.facts.llm_calls,
                summary=f"{event.agent} {what}.",
            ),
        )

    def _mismatch(self, state: State, event: LlmCall, answer: str, context: SessionContext) -> str | None:
        """What is wrong with the answer, or None; a first answer is what later ones are held to."""
        asked = event.request_model
        (asked_family, pinned), (answer_family, snapshot) = family(asked), family(answer)
        routed = (event.provider or "").startswith(("azure", "az.")) or not _KNOWN.match(asked_family)
        if asked_family != answer_family and not routed and _KNOWN.match(answer_family):
            return f"asked for {asked} and was answered by {answer}"
        if asked_family == answer_family and pinned and snapshot and pinned != snapshot:
            return f"pinned {asked} and was answered by {answer}"
        known = context.profile.models.get(asked, ()) if context.profile is not None else ()
        if known and answer not in known:
            return f"asked for {asked} and was answered by {answer}, which never answered before"
        before = answer
        if not (known or routed):
            before = state.answered.setdefault(name_hash(asked), answer)
            if len(state.answered) > MAX_MODELS:
                del state.answered[next(iter(state.answered))]
        if before == answer:
            return None
        return f"asked for {asked} and was answered by {answer}, by {before} earlier in the session"
