"""The pictures, as Altair charts over the named tables."""

from __future__ import annotations

from typing import Any

import altair as alt

from mtlsearch.config import Task
from mtlsearch.config.task import LOWER_IS_BETTER
from mtlsearch.report.encodings import (
    COUNTED,
    OKABE_ITO,
    SHAPES,
    USUAL_WIDTH,
    heatmap,
    indexed,
    ink,
    metric_picker,
    mixture_picker,
    mixture_title,
    model_colour,
    model_shape,
    over,
    shown_title,
    state_colour,
    state_shape,
    task_picker,
    tooltips,
    without_outliers,
)
from mtlsearch.report.experiment import Facts
from mtlsearch.report.parallel import ABSENT
from mtlsearch.report.tables import MOST_IN_HEATMAP, Row, Tables, label, task_label

HIGHLIGHTED = 7
"""Learning curves that have a colour of their own."""


Charts = dict[str, alt.TopLevelMixin]
_TOOLTIP = ("name", "state", "objective", "epochs", "reason")
_HISTORY_HEIGHT = 300
_ENDED_WITHOUT = ("PRUNED", "FAIL")
"""States of trials that are drawn though they have no objective."""


def charts(facts: Facts) -> Charts:
    """Every picture that has something to show, by its name, with the data in it."""
    tables = Tables(facts)
    named = tables.named()
    return {
        name: chart.properties(datasets={table: named[table] for table in tables_of(chart.to_dict())})
        for name, chart in draw(tables, named).items()
    }


def draw(tables: Tables, named: dict[str, list[Row]]) -> Charts:
    """The same without the data: of a page, which holds each table once."""
    drawn = {
        "history": _history,
        "states": _states,
        "parallel": _parallel,
        "importance": _importance,
        "scatter": _scatter,
        "delta_heatmap": _delta_heatmap,
        "curves": _curves,
        "diversity": _diversity,
        "gates": _gates,
        "parameters": _alpha,
        "parameters_experts": _num_experts,
        "parameters_kind": _expert_kind,
    }
    made = {name: make(tables, named) for name, make in drawn.items()}
    return {
        name: chart.properties(width=USUAL_WIDTH if chart.width is alt.Undefined else chart.width)
        for name, chart in made.items()
        if chart is not None
    }


def tables_of(spec: Any) -> set[str]:
    """Names of the tables that a specification reads."""
    if isinstance(spec, list):
        return {name for one in spec for name in tables_of(one)}
    if not isinstance(spec, dict):
        return set()
    data = spec.get("data")
    own = {data["name"]} if isinstance(data, dict) and set(data) == {"name"} else set()
    return own.union(*(tables_of(value) for value in spec.values()))


def _history(tables: Tables, named: dict[str, list[Row]]) -> Any:
    values = [row["objective"] for row in named["trials"] if row["objective"] is not None]
    if not values:
        return None
    y = alt.Y("objective:Q").title(tables.objective).scale(domain=without_outliers(values), clamp=True, nice=True)
    x = alt.X("trial:Q").title("trial").axis(**COUNTED).scale(nice=False, padding=8)
    base = over("trials")
    shown = [row for row in named["trials"] if row["objective"] is not None or row["state"] in _ENDED_WITHOUT]
    look = {"x": x, "color": state_colour(shown), "shape": state_shape(shown), "tooltip": tooltips(*_TOOLTIP)}
    points = (
        base.transform_filter("isValid(datum.objective)")
        .mark_point(filled=True, size=55, opacity=0.85)
        .encode(y=y, **look)
    )
    without = (
        base.transform_filter(f"!isValid(datum.objective) && indexof({list(_ENDED_WITHOUT)}, datum.state) >= 0")
        .mark_point(filled=True, size=55, opacity=0.85)
        .encode(y=alt.value(_HISTORY_HEIGHT - 5), **look)
    )
    best = (
        base.transform_filter("isValid(datum.best)")
        .mark_line(interpolate="step-after", color="#009E73", strokeWidth=2)
        .encode(x=x, y=alt.Y("best:Q").scale(clamp=True))
    )
    drawn = [best, points] if any(row["best"] is not None for row in named["trials"]) else [points]
    drawn += [without] if any(row["objective"] is None for row in shown) else []
    return alt.layer(*drawn).properties(height=_HISTORY_HEIGHT)


def _states(tables: Tables, named: dict[str, list[Row]]) -> Any:
    if not named["trials"]:
        return None
    return (
        over("trials")
        .mark_bar()
        .encode(
            x=alt.X("epochs:O").title("epochs trained").axis(labelAngle=0),
            y=alt.Y("count():Q").title("trials").axis(**COUNTED),
            color=state_colour(named["trials"]),
            tooltip=["state:N", "epochs:O", alt.Tooltip("count():Q", title="trials")],
        )
        .properties(height=240)
    )


def _parallel(tables: Tables, named: dict[str, list[Row]]) -> Any:
    if len(tables.axes) < 2 or not any(row["objective"] is not None for row in named["trials"]):
        return None
    names = {f"p{axis.index}": axis.name for axis in tables.axes}
    values = [row["objective"] for row in named["trials"] if row["objective"] is not None]
    hovered = alt.selection_point(name="hovered", on="pointerover", fields=["trial"], empty=False)
    labels = alt.param(name="labels", value=names)
    x = alt.X("axis:N", sort=list(names)).title(None).scale(padding=0.3)
    x = x.axis(labelExpr="labels[datum.value]", labelAngle=-25, labelLimit=130, grid=True, orient="bottom")
    y = alt.Y("y:Q").axis(None).scale(domain=[ABSENT - 0.04, 1.03])
    colour = alt.Color("objective:Q").scale(domain=without_outliers(values), clamp=True)
    lines = (
        over("trials")
        .transform_filter("isValid(datum.objective)")
        .transform_fold(list(names), as_=["axis", "y"])
        .mark_line(strokeWidth=1.5)
        .encode(
            x=x,
            y=y,
            detail="trial:N",
            color=colour.title(tables.objective),
            opacity=alt.condition(hovered, alt.value(1.0), alt.value(0.45)),
            strokeWidth=alt.condition(hovered, alt.value(4), alt.value(1.5)),
            tooltip=tooltips("name", "state", "objective"),
        )
        .add_params(hovered, labels)
    )
    ticks = (
        over("ticks")
        .mark_text(align="left", dx=5, fontSize=10, fontWeight="bold")
        .encode(x=alt.X("axis:N", sort=list(names)), y="y:Q", text="text:N")
    )
    return alt.layer(lines, ticks).properties(height=360, width=max(640, 95 * len(names)))


def _importance(tables: Tables, named: dict[str, list[Row]]) -> Any:
    rows = named["importance"]
    if not rows:
        return None
    targets = [tables.objective, *(task.name for task in tables.tasks)]
    names = list(dict.fromkeys(row["name"] for row in rows))
    base = over("importance").encode(
        x=indexed("target", targets),
        y=alt.Y("name:N", sort=names).title(None).axis(labelLimit=180),
        tooltip=["name:N", alt.Tooltip("share:Q", format=".0%")],
    )
    return heatmap(
        base,
        alt.Color("share:Q").scale(scheme="blues", domain=[0, 1]).title("share").legend(format=".0%"),
        text=alt.Text("share:Q", format=".0%"),
        dark="datum.share > 0.55",
        columns=len(targets),
        rows=len(names),
        labels=targets,
    )


def _scatter(tables: Tables, named: dict[str, list[Row]]) -> Any:
    tasks = tables.tasks
    scored = [row for row in named["trials"] if row["s0"] is not None] if tasks else []
    if len(tasks) < 2 or not scored:
        return None
    pick_x, pick_y = task_picker("across", tables, 0), task_picker("up", tables, 1)
    signs = alt.param(name="signs", value=[_sign(task) for task in tasks])
    names = alt.param(name="names", value=[task_label(task) for task in tasks])
    pairs = (
        over("trials")
        .transform_calculate(x="datum['s' + across]", y="datum['s' + up]")
        .transform_calculate(better_x="datum.x * signs[across]", better_y="datum.y * signs[up]")
        .transform_filter("isValid(datum.x) && isValid(datum.y)")
    )
    x = alt.X("x:Q").title(None).scale(zero=False, nice=True, padding=10)
    y = alt.Y("y:Q").title(None).scale(zero=False, nice=True, padding=10)
    faint = alt.condition("datum.state == 'COMPLETE'", alt.value(1.0), alt.value(0.4))
    points = pairs.mark_point(filled=True, size=60).encode(
        opacity=faint,
        x=x,
        y=y,
        color=model_colour(named),
        shape=model_shape(named),
        tooltip=tooltips("name", "x", "y", *_TOOLTIP[1:]),
    )
    front = _front(pairs.transform_filter("datum.state == 'COMPLETE'"))
    line = front.mark_line(color="#D55E00", strokeDash=[5, 3], strokeWidth=2).encode(x=x, y=y, order="better_x:Q")
    ringed = front.mark_point(size=190, color="#D55E00", strokeWidth=2).encode(x=x, y=y)
    title = alt.TitleParams(text=alt.ExprRef("['↑ ' + names[up], '→ ' + names[across]]"))
    drawn = [line, ringed, points] if any(row["state"] == "COMPLETE" for row in scored) else [points]
    chart = alt.layer(*drawn).add_params(pick_x, pick_y, signs, names)
    return chart.properties(height=380, title=title)


def _sign(task: Task) -> int:
    return -1 if task.main_metric in LOWER_IS_BETTER else 1


def _front(pairs: alt.Chart) -> alt.Chart:
    """The points that no other beats in one task and equals or beats in the other.

    They are passed from the best of one task on: what reaches further than all before it in the other task is on the
    front. Of points in the same place one is kept, which looks the same. A frame of Vega's cannot end before the point
    itself, so that the best before it is the lag of the best up to it.
    """
    sort: list[alt.SortField | dict[str, str]] = [
        alt.SortField("better_x", order="descending"),
        alt.SortField("better_y", order="descending"),
    ]
    return (
        pairs.transform_window(reached="max(better_y)", frame=[None, 0], sort=sort)
        .transform_window(before="lag(reached)", sort=sort)
        .transform_filter("!isValid(datum.before) || datum.better_y > datum.before")
    )


def _delta_heatmap(tables: Tables, named: dict[str, list[Row]]) -> Any:
    rows = named["gains"]
    if not rows:
        return None
    names = [task.name for task in tables.tasks]
    shown = list(dict.fromkeys(row["name"] for row in rows))[:MOST_IN_HEATMAP]
    sizes = sorted(abs(row["gain"]) for row in rows)
    far = sizes[int(0.95 * (len(sizes) - 1))] or 1e-6
    base = over("gains").encode(
        x=indexed("task", names),
        y=alt.Y("name:N", sort=shown).title(None).axis(labelLimit=150),
        tooltip=["name:N", alt.Tooltip("gain:Q", format="+.2%")],
    )
    colour = alt.Color("gain:Q").scale(range=["#B35806", "#F7F7F7", "#08519C"], domain=[-far, 0, far], clamp=True)
    beyond = (
        "(datum.value < 0 ? '≤ ' : datum.value > 0 ? '≥ ' : '') + datum.label" if sizes[-1] > far else "datum.label"
    )
    return heatmap(
        base,
        colour.title("gain").legend(format="+.1%", values=[-far, 0, far], labelExpr=beyond),
        text=alt.Text("written:N"),
        dark=f"abs(datum.gain) > {0.6 * far}",
        columns=len(names),
        rows=len(shown),
        labels=names,
        written="(datum.gain < 0 ? '▼ ' : '') + format(datum.gain, '+.1%')",
    )


def _curves(tables: Tables, named: dict[str, list[Row]]) -> Any:
    if not _trained(named):
        return None
    best = [trial for trial in tables.ranked if trial.epochs][:HIGHLIGHTED]
    numbers, names = [trial.number for trial in best], [label(trial) for trial in best]
    epochs = (
        over("epochs")
        .transform_calculate(value="datum[shown]", highlighted=f"indexof({numbers}, datum.trial)")
        .transform_filter("datum.role == 'trial' && isValid(datum.value)")
        .transform_calculate(drawn="clamp(datum.value, limits[shown][0], limits[shown][1])")
    )
    x = alt.X("epoch:Q").title("epoch").axis(**COUNTED).scale(nice=False)
    y = alt.Y("drawn:Q").title(None).scale(zero=False)
    tips = ["trial:Q", "epoch:Q", alt.Tooltip("value:Q", format=".5g")]
    others = (
        epochs.transform_filter("datum.highlighted < 0")
        .mark_line(color="#999999", opacity=0.35, strokeWidth=1)
        .encode(x=x, y=y, detail="trial:N", tooltip=tips)
    )
    colour = alt.Color("trial:N", sort=numbers).scale(domain=numbers, range=list(OKABE_ITO)).title("best trials")
    colour = colour.legend(labelExpr="best_names[datum.value]")
    top = (
        epochs.transform_filter("datum.highlighted >= 0")
        .mark_line(strokeWidth=2, point=alt.OverlayMarkDef(size=45, filled=True))
        .encode(x=x, y=y, color=colour, shape=alt.Shape("trial:N", sort=numbers).scale(range=list(SHAPES)).legend(None))
        .encode(tooltip=tips)
    )
    labels = alt.param(name="best_names", value=dict(zip(map(str, numbers), names, strict=True)))
    drawn = [others, top] if _trained(named) - set(numbers) else [top]
    limits = alt.param(name="limits", value=_limits(tables, named))
    chart = alt.layer(*drawn).add_params(metric_picker(tables), labels, limits)
    return chart.properties(height=320, title=shown_title(tables))


def _limits(tables: Tables, named: dict[str, list[Row]]) -> dict[str, list[float]]:
    """Column of an epoch → lowest and highest value that is drawn in its place, others stand at the edge."""
    signs = {"objective": 1, **{f"s{index}": _sign(task) for index, task in enumerate(tables.tasks)}}
    limits = {}
    for column, sign in signs.items():
        rows = (row for row in named["epochs"] if row["role"] == "trial")
        values = [sign * row[column] for row in rows if row[column] is not None]
        limits[column] = sorted(sign * value for value in without_outliers(values)) if values else [0.0, 0.0]
    return limits


def _trained(named: dict[str, list[Row]]) -> set[int]:
    """The search's trials that have finished an epoch."""
    return {row["trial"] for row in named["epochs"] if row["role"] == "trial"}


def _diversity(tables: Tables, named: dict[str, list[Row]]) -> Any:
    if not named["distance"]:
        return None
    shown = mixture_picker(tables)
    return (
        over("distance")
        .transform_filter("datum.trial == mixture")
        .mark_rect()
        .encode(
            x=alt.X("one:O").title("expert").axis(labelAngle=0),
            y=alt.Y("other:O").title("expert"),
            color=alt.Color("distance:Q").scale(scheme="greys", domain=[0, 1]).title("distance"),
            tooltip=["one:O", "other:O", alt.Tooltip("distance:Q", format=".3f")],
        )
        .add_params(shown)
        .properties(height=300, width=340, title=mixture_title(tables))
    )


def _gates(tables: Tables, named: dict[str, list[Row]]) -> Any:
    if not named["gates"]:
        return None
    names = [task.name for task in tables.tasks]
    base = (
        over("gates")
        .transform_filter("datum.trial == mixture")
        .encode(
            x=alt.X("expert:O").title("expert").axis(labelAngle=0),
            y=alt.Y("task:O").title(None).axis(labelExpr="labels[datum.value]", labelLimit=150),
            tooltip=["expert:O", alt.Tooltip("share:Q", format=".1%"), "closed:N"],
        )
    )
    colour = alt.Color("share:Q").scale(scheme="blues", domain=[0, 1]).title("gate weight").legend(format=".0%")
    text = base.transform_calculate(written="datum.closed ? '×' : format(100 * datum.share, '.0f')").mark_text(
        fontSize=alt.ExprRef("max(6, min(11, width / 24))")
    )
    text = text.encode(text="written:N", color=ink("datum.share > 0.55"))
    labels = alt.param(name="labels", value=names)
    layers = alt.layer(base.mark_rect().encode(color=colour), text).add_params(mixture_picker(tables), labels)
    return layers.properties(height=max(120, 26 * len(names)), title=mixture_title(tables))


def _alpha(tables: Tables, named: dict[str, list[Row]]) -> Any:
    x = alt.X("alpha:Q").title("α (share of exclusive experts)").scale(domain=[-0.03, 1.03], nice=False)
    return _against(tables, named, "alpha", x)


def _num_experts(tables: Tables, named: dict[str, list[Row]]) -> Any:
    x = alt.X("num_experts:Q").title("experts").axis(**COUNTED).scale(zero=False, padding=12)
    return _against(tables, named, "num_experts", x)


def _expert_kind(tables: Tables, named: dict[str, list[Row]]) -> Any:
    return _against(tables, named, "expert", alt.X("expert:N").title("expert kind").axis(labelAngle=0))


def _against(tables: Tables, named: dict[str, list[Row]], column: str, x: alt.X) -> Any:
    """A parameter against the objective or a task's score, which the reader picks."""
    scored = [row for row in named["trials"] if row["objective"] is not None]
    if len({row[column] for row in scored} - {None}) < 2:
        return None
    return (
        over("trials")
        .transform_calculate(value="datum[shown]")
        .transform_filter(f"isValid(datum.value) && isValid(datum.{column})")
        .mark_point(filled=True, size=60, opacity=0.8)
        .encode(
            x=x,
            y=alt.Y("value:Q").title(None).scale(zero=False),
            color=model_colour(named),
            shape=model_shape(named),
            tooltip=tooltips("name", column, "value", "state"),
        )
        .add_params(metric_picker(tables))
        .properties(height=260, title=shown_title(tables))
    )
