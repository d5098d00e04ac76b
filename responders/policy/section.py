"""What every section of a policy is made of: it refuses keys it does not know, and picks detections out by
what they are about.
"""

from __future__ import annotations

import difflib
from fnmatch import fnmatchcase
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from responders.pages.wording import HAPPENINGS
from schemas.base import Identifier
from schemas.control import Mode
from schemas.detection import Detection, Severity


def no_detector(name: str) -> str | None:
    """What is wrong with a detector's name; None when there is one of that name.

    >>> no_detector("tool_loop"), no_detector("tool_lop")
    (None, "there is no detector 'tool_lop': did you mean 'tool_loop'?")
    """
    if name in HAPPENINGS:
        return None
    meant = difflib.get_close_matches(name, HAPPENINGS, n=1)
    return f"there is no detector {name!r}: " + (
        f"did you mean {meant[0]!r}?" if meant else "watchkeeper runbook lists them"
    )


def _that_there_are(names: frozenset[str]) -> frozenset[str]:
    """A rule with a name that no detector has fits nothing."""
    for name in sorted(names):
        wrong = no_detector(name)
        if wrong is not None:
            raise ValueError(wrong)
    return names


Names = frozenset[Identifier]
Detectors = Annotated[frozenset[Identifier], AfterValidator(_that_there_are)]
Minutes = Annotated[float, Field(ge=0, le=60 * 24 * 366, allow_inf_nan=False)]
Seconds = Annotated[float, Field(ge=0, le=86_400, allow_inf_nan=False)]


class Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True)


class Match(Section):
    """Which detections: every one that fits all that is given. Names of agents and tenants may be patterns
    (``billing-*``); ``suggests`` is the containment a detection asks for.
    """

    detectors: Detectors | None = None
    severities: frozenset[Severity] | None = None
    agents: Names | None = None
    tenants: Names | None = None
    suggests: frozenset[Mode | Literal["nothing"]] | None = None

    def fits(self, detection: Detection) -> bool:
        suggested = "nothing" if detection.suggested is None else detection.suggested.mode
        return (
            (self.detectors is None or detection.detector in self.detectors)
            and (self.severities is None or detection.severity in self.severities)
            and (self.suggests is None or suggested in self.suggests)
            and named(detection.agent, self.agents)
            and named(detection.tenant, self.tenants)
        )


def named(name: str, patterns: Names | None) -> bool:
    """Whether one of the patterns is the name's. None are all names.

    >>> named("billing-eu", frozenset({"billing-*"})), named("support", frozenset({"billing-*"}))
    (True, False)
    """
    return patterns is None or any(fnmatchcase(name, pattern) for pattern in patterns)
