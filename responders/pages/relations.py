"""What a page says of other incidents, and of why nobody was told sooner: lines of mrkdwn."""

from __future__ import annotations

from typing import Final

from responders.incident import Incident, Related
from responders.pages import wording

MOST_LINES: Final = 14
_WHY: Final = {
    "quiet_hours": "it was quiet hours",
    "silence": "it was silenced",
    "consequence": "it might have followed from something larger",
    "storm": "there were too many at once: a digest tells it",
}


def related(incident: Incident) -> list[str]:
    """The incidents this one stands for, is part of, or had before; the digest's list, the newest last."""
    lines = []
    if incident.merged_into is not None:
        lines.append(f"🔗 Part of `{incident.merged_into}`: go on there.")
    lines += _several(incident.listed, "told together")
    lines += _several(incident.absorbed, "follow from this")
    if incident.kin:
        lines.append(f"🔁 It was there before: `{'`, `'.join(incident.kin[-5:])}`.")
    if incident.open and not incident.attended:
        for each in list(incident.deferrals.values())[-1:]:
            lines.append(f"⏲ Not told at once: {_WHY[each.reason]}.")
    return lines


def _several(these: tuple[Related, ...], how: str) -> list[str]:
    if not these:
        return []
    shown = these[-MOST_LINES:]
    lines = [f"*{len(these)} incidents {how}*"]
    if len(these) > len(shown):
        lines.append(f"… {len(these) - len(shown)} before these: `watchkeeper incidents`")
    return lines + [_line(each) for each in shown]


def _line(each: Related) -> str:
    sign = "" if each.severity is None else f"{wording.SIGNS[each.severity]} "
    return f"{sign}`{each.incident_id}` {wording.literal(each.headline[:120])}"
