"""The report in a real browser: everything is drawn, sorts, filters and opens, and no name in it is markup.

The browser is Debian's chromium, headless and offline. Without one these tests are skipped.
"""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from conftest_report import HOSTILE, MadeUp, binary_tasks

from mtlsearch.config import Task
from mtlsearch.report.write import write_report

playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed: pip install '.[test]'")

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="there is no chromium: apt-get install chromium"),
]

MIXED = ["COMPLETE"] * 12 + ["PRUNED"] * 6 + ["FAIL"] * 2 + ["RUNNING"]
TASKS = (
    Task(name=HOSTILE, kind="binary"),
    Task(name="</script><!-- $x", kind="regression"),
    Task(name="c", kind="binary"),
)


@dataclass
class Opened:
    """A page, and what it said and asked for while it was open."""

    page: Any
    said: list[str] = field(default_factory=list)
    asked: list[str] = field(default_factory=list)
    alerts: list[str] = field(default_factory=list)

    def draw_all(self) -> None:
        """Charts are drawn when they come into view, or before the page is printed."""
        self.page.evaluate("dispatchEvent(new Event('beforeprint'))")
        self.page.wait_for_function("[...document.querySelectorAll('.chart')].every((chart) => chart.dataset.drawn)")

    def column(self, name: str) -> list[str]:
        """The leaderboard's cells below a heading, top to bottom."""
        heads = self.page.locator("#board thead th").evaluate_all("(all) => all.map((head) => head.dataset.name)")
        rows = self.page.locator("#board tbody tr.trial").evaluate_all(
            "(all) => all.map((r) => [...r.cells].map((c) => c.textContent))"
        )
        return [row[heads.index(name)] for row in rows]


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with playwright.sync_playwright() as started:
        arguments = ["--no-sandbox"] if os.getuid() == 0 else []
        found = started.chromium.launch(executable_path=CHROMIUM, args=arguments)
        yield found
        found.close()


@pytest.fixture
def open_page(browser: Any) -> Iterator[Callable[..., Opened]]:
    contexts = []

    def opened(path: Path, width: int = 1200, scheme: str = "light") -> Opened:
        context = browser.new_context(viewport={"width": width, "height": 800}, color_scheme=scheme, offline=True)
        contexts.append(context)
        found = Opened(context.new_page())
        found.page.on("console", lambda message: found.said.append(message.text))
        found.page.on("pageerror", lambda error: found.said.append(str(error)))
        found.page.on("request", lambda request: found.asked.append(request.url))
        found.page.on("dialog", lambda dialog: (found.alerts.append(dialog.message), dialog.dismiss()))
        found.page.goto(path.as_uri())
        found.page.wait_for_function("document.documentElement.dataset.ready === 'yes'")
        return found

    yield opened
    for context in contexts:
        context.close()


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of an experiment with hostile names and trials in every state."""
    path = tmp_path_factory.mktemp("report") / "out"
    return write_report(MadeUp(path, TASKS, epochs=4, name=HOSTILE, reason=f"why: {HOSTILE}").write(MIXED))


@pytest.mark.parametrize(("width", "scheme"), [(1200, "light"), (1200, "dark"), (360, "light"), (360, "dark")])
def test_everything_is_drawn_without_an_error_or_a_request(
    report: Path, open_page: Any, width: int, scheme: str
) -> None:
    opened = open_page(report, width, scheme)
    opened.draw_all()
    page = opened.page
    assert opened.said == []
    assert opened.asked == [report.as_uri()]
    charts = page.locator(".chart").count()
    assert charts == 12
    assert page.locator(".chart svg.marks").count() == charts
    assert page.evaluate("document.documentElement.scrollWidth") == width  # nothing scrolls sideways but in its place
    paper = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert paper == ("rgb(255, 255, 255)" if scheme == "light" else "rgb(21, 24, 27)")


def test_names_are_text(report: Path, open_page: Any) -> None:
    opened = open_page(report)
    opened.draw_all()
    page = opened.page
    assert page.locator("h1").text_content() == HOSTILE
    assert HOSTILE in page.title()
    page.locator("#board tr.trial").first.click()
    for text in (f"{HOSTILE} auroc", "</script><!-- $x rmse"):
        assert text in page.locator("#board > thead").text_content()
    assert HOSTILE in page.locator("tr.detail").text_content()
    assert HOSTILE in page.locator("#scatter select option").first.text_content()
    assert HOSTILE in page.locator("#states").last.text_content() or HOSTILE in page.content()
    page.locator("#history svg .mark-symbol path").first.hover(force=True)
    page.locator("#vg-tooltip-element.visible").wait_for()
    assert HOSTILE in page.locator("#vg-tooltip-element").text_content()
    assert opened.alerts == []
    assert page.locator("script").count() == 4  # the page's own


def test_the_table_sorts_both_ways_with_nothing_last(report: Path, open_page: Any) -> None:
    opened = open_page(report)
    head = opened.page.locator('#board th[data-name="objective"]')
    best_first = [float(text) for text in opened.column("objective") if text]
    head.get_by_role("button").click()
    assert head.get_attribute("aria-sort") == "descending"
    texts = opened.column("objective")
    numbers = [float(text) for text in texts if text]
    assert numbers == sorted(best_first, reverse=True)
    assert texts[len(numbers) :] == [""] * (len(texts) - len(numbers)) != []
    head.get_by_role("button").click()
    assert head.get_attribute("aria-sort") == "ascending"
    texts = opened.column("objective")
    assert [float(text) for text in texts[: len(numbers)]] == sorted(numbers)
    opened.page.locator('#board th[data-name="trial"]').get_by_role("button").click()
    assert opened.column("trial") == [str(number) for number in range(3, 3 + len(MIXED))]


def test_the_table_filters_by_state_and_by_words(report: Path, open_page: Any) -> None:
    opened = open_page(report)
    page = opened.page
    for state in ("COMPLETE", "PRUNED", "FAIL", "RUNNING"):
        page.select_option("#states", state)
        assert opened.column("state") == [state] * MIXED.count(state)
    page.select_option("#states", "baseline")
    assert len(opened.column("trial")) == len(TASKS)
    page.select_option("#states", "trial")
    page.fill("#filter", "mmoeex gru")
    assert set(opened.column("model.kind")) == {"mmoeex"}
    assert set(opened.column("model.expert.kind")) == {"gru"}
    page.fill("#filter", "no such thing")
    assert opened.column("trial") == []
    assert page.locator("#count").text_content().startswith("0 of ")


def test_a_row_opens_the_trial_by_mouse_and_by_keyboard(report: Path, open_page: Any) -> None:
    opened = open_page(report)
    page = opened.page
    page.locator("#board tr.trial").first.click()
    detail = page.locator("tr.detail")
    assert detail.count() == 1
    text = detail.text_content()
    assert all(part in text for part in ("optimizer.lr", "why: ", "validation", "test", "objective: "))
    assert detail.locator(".spark svg").count() == 1 + len(TASKS)
    page.keyboard.press("Enter")  # the button kept the focus
    assert page.locator("tr.detail").count() == 0


def test_the_theme_is_switched_and_kept(report: Path, open_page: Any) -> None:
    opened = open_page(report)
    opened.draw_all()
    page = opened.page
    before = page.locator("#history svg text").first.get_attribute("fill")
    page.click("#theme")
    page.wait_for_function(
        "(before) => document.querySelector('#history svg text')?.getAttribute('fill') !== before", arg=before
    )
    assert page.evaluate("document.documentElement.dataset.theme") == "dark"
    page.reload()
    page.wait_for_function("document.documentElement.dataset.ready === 'yes'")
    assert page.evaluate("document.documentElement.dataset.theme") == "dark"
    assert opened.said == []


def test_another_task_is_shown_when_it_is_picked(report: Path, open_page: Any) -> None:
    opened = open_page(report)
    opened.draw_all()
    title = opened.page.locator("#curves svg .role-title-text")
    assert title.text_content() == "Δ (objective)"
    opened.page.select_option("#curves select", label="c (auroc)")
    opened.page.wait_for_function("document.querySelector('#curves svg .role-title-text').textContent === 'c (auroc)'")
    assert opened.said == []


ODD = {
    "no trials": ([], 4, {}),
    "only failed ones": (["FAIL"] * 3, 4, {}),
    "one that runs": (["RUNNING"], 4, {}),
    "one task": (["COMPLETE"] * 3, 1, {}),
    "no baselines": (["COMPLETE"] * 9, 3, {"baselines": False}),
    "one trial of one epoch": (["COMPLETE"], 2, {"epochs": 1}),
    "128 tasks": (["COMPLETE"] * 12, 128, {"epochs": 2}),
}


@pytest.mark.parametrize(("states", "tasks", "more"), ODD.values(), ids=ODD)
def test_odd_experiments_are_drawn_as_far_as_they_go(
    tmp_path: Path, open_page: Any, states: list[str], tasks: int, more: dict[str, Any]
) -> None:
    opened = open_page(write_report(MadeUp(tmp_path / "out", binary_tasks(tasks), **more).write(states)), 360)
    opened.draw_all()
    assert opened.said == []
    assert opened.page.evaluate("document.documentElement.scrollWidth") == 360
    for section in opened.page.locator("section").all():  # either it shows something, or it says why not
        shown = section.locator("svg.marks, table tbody tr, dl.facts dt, .empty").count()
        assert shown > 0, section.get_attribute("id")


@pytest.mark.parametrize(("num_tasks", "epochs"), [(4, 10), (16, 60)])
def test_500_trials_fit_into_3_mb_and_are_drawn(tmp_path: Path, open_page: Any, num_tasks: int, epochs: int) -> None:
    states = ["COMPLETE", "PRUNED", "COMPLETE", "FAIL"] * 125
    started = time.monotonic()
    path = write_report(MadeUp(tmp_path / "out", binary_tasks(num_tasks), epochs=epochs).write(states))
    assert path.stat().st_size <= 3_000_000
    opened = open_page(path)
    opened.draw_all()
    assert opened.said == []
    assert len(opened.column("trial")) == 500
    assert time.monotonic() - started < 300
