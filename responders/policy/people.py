"""Who may do what: people, by the name Slack or the command line gives them, in roles."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, Literal

from pydantic import model_validator

from responders.policy.section import Names, Section

Deed = Literal[
    "acknowledge",
    "note",
    "halt",
    "resolve",
    "false_alarm",
    "silence",
    "degrade",
    "approve",
    "deny",
    "resume",
]
ANYONE: Final = "anyone"
_HARMLESS: Final[frozenset[Deed]] = frozenset(
    {"acknowledge", "note", "halt", "resolve", "false_alarm", "silence"}
)
_ALL: Final[frozenset[Deed]] = _HARMLESS | {"degrade", "approve", "deny", "resume"}
_BY_ROLE: Final[Mapping[str, frozenset[Deed]]] = {
    ANYONE: _HARMLESS,
    "responder": _HARMLESS | {"degrade", "approve", "deny"},
    "operator": _ALL,
}


class Role(Section):
    """``people`` are Slack user ids or names, as the person's client gives them."""

    people: Names = frozenset()
    may: frozenset[Deed] = frozenset()


class Roles(Section):
    """Roles by name, as tables ``[roles.NAME]``.

    The role ``anyone`` is that of everyone who sees a page: by default they may stop an agent, but not let
    one run again. ``responder`` and ``operator`` have deeds of their own by default, and no people.
    """

    named: Mapping[str, Role] = {}

    @model_validator(mode="before")
    @classmethod
    def _tables(cls, given: Any) -> Any:
        """The names of tables are those of roles: unknown keys are none."""
        if not isinstance(given, dict) or set(given) == {"named"}:
            return given
        return {"named": given}

    def may(self, deed: Deed, *names: str) -> bool:
        """Whether the person, under any of these names, may do it."""
        return any(
            name == ANYONE or people.intersection(names) for name, people in self.who_may(deed).items()
        )

    def who_may(self, deed: Deed) -> Mapping[str, Names]:
        """The roles that may do it, with their people; `ANYONE` has none by name."""
        roles = {name: Role(may=deeds) for name, deeds in _BY_ROLE.items()} | dict(self.named)
        return {
            name: role.people
            for name, role in roles.items()
            if deed in (role.may if "may" in role.model_fields_set else _BY_ROLE.get(name, frozenset()))
        }
