"""Screenshots of a report for the README: `python docs/screenshots.py DIR`, with DIR an experiment's folder.

Without DIR it searches the quick start first, with a final ranking. Needs chromium and `pip install '.[test]'`.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

from playwright.sync_api import Browser, Page, sync_playwright

ROOT = Path(__file__).parent.parent
IMAGES = ROOT / "docs" / "images"


@dataclass(frozen=True)
class Picture:
    """Some sections of the report, one below the other."""

    name: str
    sections: tuple[str, ...]
    width: int = 1100
    scheme: str = "light"
    height: int = 900
    opens: bool = False
    """Whether the best trial's row is opened."""


PICTURES = (
    Picture("report-leaderboard", ("leaderboard", "final"), height=1500, opens=True),
    Picture("report-tasks", ("scatter", "gains"), scheme="dark"),
    Picture("report-phone", ("history", "importance", "curves"), width=360),
)


def main() -> None:
    """Writes docs/images/*.png."""
    with tempfile.TemporaryDirectory() as scratch, sync_playwright() as playwright:
        folder = Path(sys.argv[1]) if len(sys.argv) > 1 else _searched(Path(scratch) / "quickstart")
        page = Path(scratch) / "report.html"
        _mtlsearch("report", str(folder), "--out", str(page))
        arguments = ["--no-sandbox"] if os.getuid() == 0 else []
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=arguments)
        IMAGES.mkdir(exist_ok=True)
        for picture in PICTURES:
            _take(browser, page, picture)
        browser.close()


def _searched(folder: Path) -> Path:
    space = ROOT / "search_spaces" / "quickstart.yaml"
    _mtlsearch("run", str(space), "--set", "final={top_k: 3, seeds: 5}", "--out", str(folder))
    return folder


def _mtlsearch(*arguments: str) -> None:
    subprocess.run([sys.executable, "-m", "mtlsearch", *arguments], check=True)


def _take(browser: Browser, report: Path, picture: Picture) -> None:
    scheme = "dark" if picture.scheme == "dark" else "light"
    context = browser.new_context(
        viewport={"width": picture.width, "height": picture.height},
        color_scheme=scheme,
        device_scale_factor=1.25,
        offline=True,
    )
    page = context.new_page()
    page.goto(report.as_uri())
    page.wait_for_function("document.documentElement.dataset.ready === 'yes'")
    _leave(page, picture.sections)
    page.evaluate("dispatchEvent(new Event('beforeprint'))")
    page.wait_for_function(
        "[...document.querySelectorAll('.chart')].every((chart) => !chart.offsetParent || chart.dataset.drawn)"
    )
    if picture.opens:
        page.locator("#board tr.trial").first.click()
    page.locator("main").screenshot(path=IMAGES / f"{picture.name}.png")
    context.close()


def _leave(page: Page, sections: tuple[str, ...]) -> None:
    """Hides all other sections."""
    page.evaluate(
        "(kept) => document.querySelectorAll('section').forEach((one) => { one.hidden = !kept.includes(one.id); })",
        list(sections),
    )


if __name__ == "__main__":
    main()
