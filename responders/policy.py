"""What whoever runs the engine decides, as data: who is paged for what, and what the engine may do itself.

A policy file is TOML; every value has a default, so an empty file is a policy.
"""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from config.errors import CorrectableError
from schemas.base import Identifier
from schemas.control import ControlState, Mode, Target
from schemas.detection import Detection, Severity
from schemas.incident import Trust


class PolicyError(CorrectableError):
    """The policy cannot be used; the message is one line with the file, the line and the key."""


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Paging(_Section):
    """Who is told. A page goes out on transitions only, to every channel; info never pages."""

    severities: frozenset[Literal["warning", "critical"]] = frozenset({"warning", "critical"})
    channels: tuple[Identifier, ...] = Field(
        default=(), description="Empty: the installation's own channel, Slack when it has a token."
    )
    fallback: Identifier | None = Field(
        default="terminal", description="Told when a channel has failed for good."
    )


class ContainmentRule(_Section):
    """How far the engine may go. The first rule that matches decides; what is not given matches all."""

    trust: Trust
    modes: frozenset[Mode] | None = None
    scope: Literal["session", "agent"] | None = None
    severities: frozenset[Severity] | None = None
    detectors: frozenset[Identifier] | None = None
    agents: frozenset[Identifier] | None = None
    tenants: frozenset[Identifier] | None = None

    def matches(self, detection: Detection, state: ControlState) -> bool:
        scope = "agent" if detection.session is None else "session"
        pairs = (
            (self.modes, state.mode),
            (self.severities, detection.severity),
            (self.detectors, detection.detector),
            (self.agents, detection.agent),
            (self.tenants, detection.tenant),
        )
        return self.scope in (None, scope) and all(wanted is None or had in wanted for wanted, had in pairs)


class ContainmentPolicy(_Section):
    """Halting a session on a critical detection and stepping down are automatic, and so is halting the agents
    of a spawn storm, which has a new session whenever one is halted. The rest asks a person.
    """

    rules: tuple[ContainmentRule, ...] = (
        ContainmentRule(
            trust="automatic",
            modes=frozenset({"halt"}),
            scope="session",
            severities=frozenset({"critical"}),
        ),
        ContainmentRule(
            trust="automatic",
            modes=frozenset({"halt"}),
            severities=frozenset({"critical"}),
            detectors=frozenset({"spawn_storm"}),
        ),
        ContainmentRule(trust="automatic", modes=frozenset({"degrade", "throttle"})),
    )
    otherwise: Trust = "approve"
    confirm_within_ms: Annotated[int, Field(ge=100)] = 20_000
    verify_quiet_ms: Annotated[int, Field(ge=100)] = 10_000
    republish_first_ms: Annotated[int, Field(ge=100)] = 1_000
    republish_at_most_ms: Annotated[int, Field(ge=100)] = 60_000

    def trust_in(self, detection: Detection, state: ControlState) -> Trust:
        for rule in self.rules:
            if rule.matches(detection, state):
                return rule.trust
        return self.otherwise


class Policy(_Section):
    paging: Paging = Paging()
    containment: ContainmentPolicy = ContainmentPolicy()

    def with_channels(self, *channels: str) -> Policy:
        """This policy with ``channels`` where it names none itself."""
        if self.paging.channels:
            return self
        return self.model_copy(update={"paging": self.paging.model_copy(update={"channels": channels})})


DEFAULT = Policy()


def target_of(detection: Detection) -> Target:
    """Whom a detection's suggestion is for: the agent, in its session when the detection has one."""
    return Target(tenant=detection.tenant, agent=detection.agent, session=detection.session)


def load(path: Path | None) -> Policy:
    """The policy in the TOML file at ``path``; the default one without a file.

    Raises:
        PolicyError: the file cannot be read, is not TOML, or a value is wrong.
    """
    if path is None:
        return DEFAULT
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise PolicyError(f"{path}: cannot be read ({error}); give WATCHKEEPER_POLICY a TOML file") from None
    return parse(text, str(path))


def parse(text: str, name: str = "policy") -> Policy:
    """The policy in ``text``. Raises PolicyError, which starts with ``name:line: key``."""
    try:
        return Policy.model_validate(tomllib.loads(text))
    except tomllib.TOMLDecodeError as error:
        raise PolicyError(f"{name}: not TOML: {error}") from None
    except ValidationError as error:
        first = error.errors()[0]
        keys = [str(part) for part in first["loc"]]
        line = _line_of(text, keys)
        raise PolicyError(f"{name}:{line}: {'.'.join(keys)}: {first['msg'].lower()}") from None


def _line_of(text: str, keys: list[str]) -> int:
    """The line that most likely holds ``keys``: their last name at or after the table they are in."""
    lines = text.splitlines()
    index = 0
    found = 1
    for key in keys:
        if key.isdigit():
            tables = [number for number, line in enumerate(lines) if line.strip().startswith("[[")]
            if int(key) < len(tables):
                index = tables[int(key)]
                found = index + 1
            continue
        for number in range(index, len(lines)):
            words = lines[number].split("#")[0].replace(".", " ").replace("=", " ").strip("[] \t").split()
            if any(word.strip("[]\"'") == key for word in words):
                index, found = number, number + 1
                break
    return found
