"""How charts say things: colours, shapes, scales, what a reader picks and what a point tells.

Colours are Okabe and Ito's, cividis and a blue–orange scale, which colour-blind readers tell apart; what colour says,
shape, sign or text says too.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import altair as alt

from mtlsearch.report.tables import Row, Tables, label, task_label

OKABE_ITO = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00", "#F0E442", "#999999")
SHAPES = ("circle", "square", "triangle-up", "diamond", "cross", "triangle-down", "triangle-right")
STATES = {
    "COMPLETE": ("#0072B2", "circle"),
    "PRUNED": ("#E69F00", "square"),
    "FAIL": ("#D55E00", "cross"),
    "RUNNING": ("#999999", "diamond"),
}
COUNTED: dict[str, Any] = {
    "tickMinStep": 1,
    "format": "d",
    "labelExpr": "datum.value % 1 ? '' : datum.label",
}
"""An axis of whole numbers. A short one has ticks between them, whose labels would be rounded to their neighbours'."""

USUAL_WIDTH = 640
"""Points. In the page a chart is as wide as its place, one that was made wider scrolls there."""


def over(table: str) -> alt.Chart:
    """A chart of a named table."""
    return alt.Chart(alt.NamedData(name=table))


def state_colour(trials: Sequence[Row]) -> alt.Color:
    """By state, those that are there."""
    there = _states_there(trials)
    return alt.Color("state:N").scale(domain=there, range=[STATES[state][0] for state in there]).title(None)


def state_shape(trials: Sequence[Row]) -> alt.Shape:
    """The same as shape."""
    there = _states_there(trials)
    return alt.Shape("state:N").scale(domain=there, range=[STATES[state][1] for state in there]).title(None)


def _states_there(trials: Sequence[Row]) -> list[str]:
    there = {row["state"] for row in trials}
    return [state for state in STATES if state in there]


def without_outliers(values: Sequence[float]) -> list[float]:
    """Lower and upper end of an axis on which more is better.

    A few trials that went nowhere must not press the others into a line.
    """
    ordered = sorted(values)
    low, middle, high = ordered[0], ordered[len(ordered) // 2], ordered[-1]
    return [max(low, middle - 4 * (high - middle)) if high > middle else low, high]


def heatmap(
    base: alt.Chart,
    colour: alt.Color,
    *,
    text: alt.Text,
    dark: str,
    columns: int,
    rows: int,
    labels: Sequence[str],
    written: str = "''",
) -> Any:
    """Cells with their numbers; `dark` says where ink must be light."""
    size = alt.ExprRef(f"max(6, min(11, width / {columns} / 5))")
    numbers = base.transform_calculate(written=written).mark_text(fontSize=size).encode(text=text, color=ink(dark))
    cells = base.mark_rect().encode(color=colour)
    named = alt.param(name="labels", value=list(labels))
    return alt.layer(cells, numbers).add_params(named).properties(height=24 * rows, width=max(640, 44 * columns))


def indexed(field: str, labels: Sequence[str]) -> alt.X:
    """A column of indices across, with their labels on top."""
    slanted = sum(map(len, labels)) > 40  # else they stand beside each other on a phone too
    x = alt.X(f"{field}:O").title(None)
    align = {"labelAngle": 35, "labelAlign": "right"} if slanted else {"labelAngle": 0}
    return x.axis(labelExpr="labels[datum.value]", labelLimit=160, orient="top", **align)


def ink(dark: str) -> Any:
    """Of text on a cell: light where `dark` holds."""
    return alt.condition(dark, alt.value("#ffffff"), alt.value("#111111"))


def _models(named: dict[str, list[Row]]) -> list[str]:
    return list(dict.fromkeys(row["model"] for row in named["trials"]))


def model_colour(named: dict[str, list[Row]]) -> alt.Color:
    """By kind of model."""
    return alt.Color("model:N").scale(domain=_models(named), range=list(OKABE_ITO)).title(None)


def model_shape(named: dict[str, list[Row]]) -> alt.Shape:
    """The same as shape."""
    return alt.Shape("model:N").scale(domain=_models(named), range=list(SHAPES)).title(None)


def task_picker(name: str, tables: Tables, first: int) -> Any:
    """A parameter that is the index of a task."""
    options, labels = list(range(len(tables.tasks))), [task.name for task in tables.tasks]
    return alt.param(name=name, value=first, bind=alt.binding_select(options=options, labels=labels, name=f"{name} "))


def metric_picker(tables: Tables) -> Any:
    """A parameter that is the column of the objective or of a task."""
    options, labels = _metrics(tables)
    bind = alt.binding_select(options=options, labels=labels, name="shown ")
    return alt.param(name="shown", value="objective", bind=bind)


def _metrics(tables: Tables) -> tuple[list[str], list[str]]:
    columns = [f"s{index}" for index in range(len(tables.tasks))]
    return ["objective", *columns], [tables.objective, *(task_label(task) for task in tables.tasks)]


def shown_title(tables: Tables) -> alt.TitleParams:
    """What is picked, as the chart's title; texts are JSON, which is what an expression's literals are."""
    titles = dict(zip(*_metrics(tables), strict=True))
    return alt.TitleParams(text=alt.ExprRef(f"{json.dumps(titles)}[shown]"))


def mixture_picker(tables: Tables) -> Any:
    """A parameter that is the number of one of the best mixtures."""
    trials = tables.mixtures
    bind = alt.binding_select(
        options=[trial.number for trial in trials], labels=[label(trial) for trial in trials], name="trial "
    )
    return alt.param(name="mixture", value=trials[0].number, bind=bind)


def mixture_title(tables: Tables) -> alt.TitleParams:
    """Which mixture is picked: a picture in a file has nothing else that says so."""
    titles = {str(trial.number): f"trial {label(trial)}" for trial in tables.mixtures}
    return alt.TitleParams(text=alt.ExprRef(f"{json.dumps(titles)}[mixture]"))


def tooltips(*columns: str) -> list[alt.Tooltip]:
    """What a point tells of these columns."""
    numbers = ("objective", "x", "y", "value")
    return [alt.Tooltip(f"{name}:Q", format=".5g") if name in numbers else alt.Tooltip(f"{name}:N") for name in columns]
