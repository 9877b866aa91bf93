"""report.html: one file with everything in it, which opens from disk and asks no network.

Texts of the experiment's (names of tasks, reasons, the space file) are escaped where they stand in the page, and reach
the script as JSON without `<`, so that nothing in them is ever markup.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from html import escape
from importlib.metadata import version
from importlib.resources import files
from string import Template
from typing import Any

import altair as alt
import vl_convert

from mtlsearch.report.charts import Charts, draw, tables_of
from mtlsearch.report.encodings import USUAL_WIDTH
from mtlsearch.report.experiment import Facts
from mtlsearch.report.parallel import varied
from mtlsearch.report.sections import Section, sections
from mtlsearch.report.tables import Row, Tables, finite, short

_STATE_OPTIONS = (
    ("trial", "all trials"),
    ("COMPLETE", "complete"),
    ("PRUNED", "pruned"),
    ("FAIL", "failed"),
    ("RUNNING", "running"),
    ("baseline", "single-task baselines"),
    ("final", "final ranking's trials"),
    ("all", "everything"),
)


def report_html(facts: Facts) -> str:
    """The whole page."""
    tables = Tables(facts)
    named = tables.named()
    drawn = draw(tables, named)
    parts = sections(tables, drawn)
    return Template(_asset("report.html")).substitute(
        version=version("mtlsearch"),
        title=escape(facts.name),
        subtitle=escape(str(facts.plan.get("created", ""))[:16].replace("T", " ")),
        css=_asset("report.css"),
        contents=" ".join(f'<a href="#{part.id}">{part.title}</a>' for part in parts),
        sections="\n".join(_section(part, drawn) for part in parts),
        footer=f"Written by mtlsearch {version('mtlsearch')}, drawn with Vega-Lite {alt.SCHEMA_VERSION}.",
        data=embeddable(_payload(tables, named, drawn)),
        library=vl_convert.javascript_bundle("window.vegaEmbed = vegaEmbed;"),
        script=_asset("report.js"),
    )


def embeddable(value: Any) -> str:
    """JSON that no `<` ends or comments out, and that holds no NaN."""
    text = json.dumps(value, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    return text.replace("<", "\\u003c").replace("\u2028", "\\u2028").replace("\u2029", "\\u2029")


def by_columns(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Rows, each name written once; a column of one value, or of few texts, is written shorter still."""
    names = dict.fromkeys(name for row in rows for name in row)
    return {"length": len(rows), "columns": {name: _column([row.get(name) for row in rows]) for name in names}}


def _column(values: list[Any]) -> Any:
    if all(value is None or isinstance(value, str) for value in values):
        distinct = list(dict.fromkeys(values))
        if len(distinct) == 1:
            return {"same": distinct[0]}
        if 2 * len(distinct) < len(values):
            place = {value: index for index, value in enumerate(distinct)}
            return {"of": distinct, "index": [place[value] for value in values]}
    return values


def _asset(name: str) -> str:
    return (files("mtlsearch.report") / "assets" / name).read_text(encoding="utf-8")


def _section(part: Section, drawn: Charts) -> str:
    pictures = "".join(
        f'<figure class="chart" data-name="{name}"></figure>'
        if name in drawn
        else f'<p class="empty">{escape(reason)}</p>'
        for name, reason in part.charts.items()
    )
    charts = f'<div class="charts{" pairs" if len(part.charts) > 1 else ""}">{pictures}</div>' if pictures else ""
    body = _BOARD if part.id == "leaderboard" and not part.empty else ""
    note = f"<p>{part.note}</p>" if part.note else ""
    empty = f'<p class="empty">{escape(part.empty)}</p>' if part.empty else ""
    return f'<section id="{part.id}"><h2>{part.title}</h2>{note}{body}{charts}{part.body}{empty}</section>'


_BOARD = (
    '<div class="controls"><input id="filter" type="search" placeholder="filter: mmoe gru …" aria-label="filter">'
    '<select id="states" aria-label="which trials">'
    + "".join(f'<option value="{value}">{text}</option>' for value, text in _STATE_OPTIONS)
    + '</select><span class="soft" id="count"></span></div>'
    '<div class="scroll"><table id="board"><thead></thead><tbody></tbody></table></div>'
)


def _payload(tables: Tables, named: Mapping[str, list[Row]], drawn: Charts) -> dict[str, Any]:
    return {
        "tasks": [task.name for task in tables.tasks],
        "tables": {name: by_columns(rows) for name, rows in named.items()},
        "charts": {name: _specification(chart.to_dict()) for name, chart in drawn.items()},
        "board": _board(tables) if tables.facts.trials else None,
    }


def _specification(spec: dict[str, Any]) -> dict[str, Any]:
    """A chart, the tables that it reads, which the page holds once, and the least width at which it can be read."""
    uses, width = sorted(tables_of(spec)), spec.pop("width", 0)
    for name in ("$schema", "config"):
        spec.pop(name, None)
    return {"spec": spec, "uses": uses, "least": width if width > USUAL_WIDTH else 0}


def _board(tables: Tables) -> dict[str, Any]:
    """The leaderboard's rows; of many tasks, only what charts show too."""
    facts = tables.facts
    shown = {task.name for task in tables.tasks}
    scores = {
        task.name: [
            f"{task.name}/{name}" for name in (task.metrics if len(facts.tasks) == len(shown) else [task.main_metric])
        ]
        for task in facts.tasks
        if task.name in shown
    }
    metrics = [name for names in scores.values() for name in names]
    metrics += [f"test/{name}" for name in metrics]
    ranks = {trial.number: rank for rank, trial in enumerate(tables.ranked, start=1)}
    parameters = list(dict.fromkeys(name for trial in facts.trials.values() for name in trial.parameters))
    rows = []
    for row in facts.board.rows:
        trial = facts.trials[row["trial"]]
        rows.append(
            {
                **{name: row[name] for name in ("trial", "role", "state", "epochs", "best_epoch", "reason")},
                "rank": ranks.get(trial.number),
                "objective": short(row["objective"]),
                "seconds": None if row["seconds"] is None else short(round(row["seconds"], 1)),
                "num_parameters": None if trial.model is None else trial.model.num_parameters,
                "multiply_adds": None if trial.model is None else trial.model.multiply_adds,
                **{name: _plain(row.get(name)) for name in (*parameters, *metrics)},
            }
        )
    return {
        "rows": by_columns(rows),
        "columns": _columns(tables),
        "parameters": parameters,
        "scores": [{"names": names} for names in scores.values()],
    }


def _plain(value: Any) -> Any:
    return short(finite(value)) if isinstance(value, float) else value


def _columns(tables: Tables) -> list[dict[str, Any]]:
    """What stands in the table itself; the rest is in a row's details."""
    tasks = [(f"{task.name}/{task.main_metric}", f"{task.name} {task.main_metric}") for task in tables.tasks]
    parameters = [(name, name.removeprefix("model.")) for name in varied(tables.ranked) if name != "model.kind"]
    columns = [
        ("rank", "rank"),
        ("trial", "trial"),
        ("model.kind", "model"),
        ("state", "state"),
        ("objective", tables.objective),
        *tasks,
        *parameters,
        ("epochs", "epochs"),
        ("seconds", "seconds"),
    ]
    return [{"name": name, "label": label, "text": _is_text(tables, name)} for name, label in columns]


def _is_text(tables: Tables, name: str) -> bool:
    values = [row.get(name) for row in tables.facts.board.rows]
    return any(isinstance(value, str) for value in values)
