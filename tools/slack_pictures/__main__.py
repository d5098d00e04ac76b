"""`python -m tools.slack_pictures [--into FOLDER] [SCENE …]`: the pictures in docs/slack."""

from __future__ import annotations

import argparse
import asyncio
import io
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Final

from PIL import Image
from playwright.async_api import Browser, async_playwright

from tools.slack_pictures.scenes import SCENES
from tools.slack_pictures.stage import stage

FOLDER: Final = Path("docs/slack")
WIDTH: Final = 760
SCALE: Final = 2
COLOURS: Final = 256


async def photograph(browser: Browser, url: str, path: Path) -> None:
    """The channel, as long as it is."""
    page = await browser.new_page(
        viewport={"width": WIDTH, "height": 200}, device_scale_factor=SCALE, java_script_enabled=False
    )
    await page.emulate_media(media="print")
    await page.goto(url, wait_until="networkidle")
    taken = await page.screenshot(full_page=True)
    await page.close()
    # Text and lines need few colours: a quarter of the size, and nothing to be seen of it.
    image = Image.open(io.BytesIO(taken)).convert("RGB")
    few = image.quantize(COLOURS, method=Image.Quantize.MAXCOVERAGE, dither=Image.Dither.NONE)
    few.save(path, optimize=True)


async def make(names: list[str], into: Path, chromium: str) -> None:
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        for name in names:
            with tempfile.TemporaryDirectory() as folder:
                async with stage(Path(folder), SCENES[name].policy) as on:
                    await SCENES[name].play(on)
                    await photograph(browser, on.slack.url, into / f"{name}.png")
            sys.stderr.write(f"{into / name}.png\n")
        await browser.close()


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tools.slack_pictures", description=__doc__)
    parser.add_argument("scenes", nargs="*", metavar="SCENE", help=f"of {', '.join(SCENES)}; all by default")
    parser.add_argument("--into", type=Path, default=FOLDER, metavar="FOLDER")
    given = parser.parse_args()
    unknown = [name for name in given.scenes if name not in SCENES]
    if unknown:
        parser.error(f"no such scene: {', '.join(unknown)}; there are {', '.join(SCENES)}")
    chromium = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if chromium is None:
        parser.error("no Chromium found: install your system's chromium package")
    given.into.mkdir(parents=True, exist_ok=True)
    asyncio.run(make(given.scenes or list(SCENES), given.into, chromium))


if __name__ == "__main__":
    main()
