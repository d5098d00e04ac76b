"""The pictures of docs/slack show what they are said to show; the page that shows them is complete."""

from __future__ import annotations

from pathlib import Path

import aiohttp
import pytest

from tools.slack_pictures.scenes import SCENES
from tools.slack_pictures.stage import stage

DOCS = Path(__file__).parents[2] / "docs"
SHOWS = {
    "loop-contained": ("Filer repeats the same call", "<b>Proved:</b>", "Acknowledged by Olga Operator"),
    "ignored-stop": ("Mailkeeper goes on although it was told to stop", "<b>Disobeyed:</b>"),
    "approval": ("<b>Waiting for approval:</b> halt Notifier", ">Approve</button>"),
    "outage": ("is hit by a provider outage", "Summarizer", "provider_outage"),
    "false-alarm": ("✅", "Marked a false alarm by Olga Operator"),
}


@pytest.mark.parametrize("name", SCENES)
async def test_a_scene_shows_what_it_is_for(name: str, tmp_path: Path) -> None:
    async with stage(tmp_path, SCENES[name].policy) as on:
        await SCENES[name].play(on)
        async with aiohttp.ClientSession() as session, session.get(on.slack.url) as answer:
            shown = await answer.text()
    for words in SHOWS[name]:
        assert words in shown
    assert ("file-" in shown or "/files/" in shown) or name == "outage", "the picture of the signal"


def test_every_picture_is_made_and_shown() -> None:
    text = (DOCS / "slack.md").read_text()
    kept = {path.stem for path in (DOCS / "slack").glob("*.png")}
    assert kept == set(SCENES) == set(SHOWS)
    assert all(f"slack/{name}.png" in text for name in SCENES)
