"""What stands in the report beside its charts: the experiment, the final ranking, why trials ended."""

from __future__ import annotations

import math
import re
from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from html import escape

from mtlsearch.report.experiment import Facts, TrialFacts
from mtlsearch.report.final import FinalRanking, FinalRow
from mtlsearch.report.statistics import Interval
from mtlsearch.report.tables import (
    MOST_EPOCHS,
    MOST_EXPERTS,
    MOST_IN_HEATMAP,
    MOST_TASKS,
    MOST_WHOLE,
    Tables,
    kind,
    label,
)
from mtlsearch.space import read_experiment

_NUMBER = re.compile(r"[-+]?\d[\d.e+-]*")


@dataclass(frozen=True)
class Section:
    """One part of the page. `note` and `body` are markup, `empty` and what replaces charts is text."""

    id: str
    title: str
    note: str = ""
    body: str = ""
    charts: Mapping[str, str] = field(default_factory=dict)
    """Name → what is said where there is nothing to draw."""
    empty: str = ""


def sections(tables: Tables, drawn: Container[str]) -> list[Section]:
    """All of them, in the page's order."""
    facts = tables.facts
    tasks = _tasks_said(tables)
    none = "No trial has finished an epoch yet."
    inside = "No mixture of experts has finished an epoch, so there are no experts to compare."
    importance = facts.importance
    sources = (
        f"From {importance.num_trials} complete trials, by conditional PED-ANOVA: how differently a parameter is "
        "spread among the best of them than among all. With less than 50, take it as a hint."
    )
    return [
        Section("searched", "What was searched", body=_searched(tables)),
        Section(
            "leaderboard",
            "Leaderboard",
            "Best first, by validation. A row opens the trial; a heading sorts." + tasks,
            empty="" if facts.trials else "No trial has been started yet.",
        ),
        _final(tables),
        Section(
            "history",
            "Optimisation history",
            "The line is the best complete trial so far. Points at the lower edge may lie below it; trials that ended "
            "without an objective stand there too.",
            charts={"history": none},
        ),
        Section(
            "states",
            "States and pruning",
            "How far trials came, and why they ended.",
            charts={"states": "No trial has been started yet."},
            body=_reasons(facts),
        ),
        Section(
            "parallel",
            "Parameters in parallel",
            "A line a trial; at the foot of an axis, models that lack the parameter.",
            charts={"parallel": "No parameter has several values yet, or no trial has an objective."},
        ),
        Section(
            "importance",
            "Parameter importance",
            sources + tasks,
            charts={"importance": "It takes 8 complete trials that differ."},
        ),
        Section(
            "scatter",
            "Task against task",
            "The dashed line is the Pareto front of the two tasks: complete trials that no "
            "other beats in one and equals or beats in the other. Trials that did not finish are faint.",
            charts={"scatter": "There is one task only, or no trial has been scored on two."},
        ),
        Section(
            "gains",
            "Gain over single-task baselines (Δ)",
            f"Trials by tasks, the best {MOST_IN_HEATMAP} at most. ▼ is negative transfer: worse than the task alone."
            + tasks,
            charts={
                "delta_heatmap": "There are no single-task baselines to compare with, or no trial has been scored."
            },
        ),
        Section(
            "curves",
            "Learning curves",
            "On validation, of the epoch's end. Points at an edge may lie beyond it." + _epochs_said(tables) + tasks,
            charts={"curves": none},
        ),
        Section(
            "experts",
            "Inside the experts",
            f"Distances between experts, darker = more different; and how much of each expert a task's gate takes, "
            f"in percent (× = closed). Of the best mixtures, {MOST_EXPERTS} experts at most.",
            charts={"diversity": inside, "gates": inside},
        ),
        Section(
            "parameters",
            "α, experts and tasks",
            "Exclusivity, the number of experts and their kind, against each task's score.",
            charts={
                "parameters": "α has not several values.",
                "parameters_experts": "The number of experts has not several values.",
                "parameters_kind": "The kind of expert has not several values.",
            },
        ),
    ]


def _tasks_said(tables: Tables) -> str:
    total = len(tables.facts.tasks)
    return f" Of {total} tasks, the {MOST_TASKS} in which trials differ most." if total > MOST_TASKS else ""


def _epochs_said(tables: Tables) -> str:
    longest = max(
        (len(trial.epochs) for trial in tables.facts.trials.values() if trial.number not in tables.whole), default=0
    )
    if longest <= MOST_EPOCHS:
        return ""
    return (
        f" Every epoch of the best {MOST_WHOLE} trials; of each other trial {MOST_EPOCHS}, the first and last included."
    )


def _searched(tables: Tables) -> str:
    facts = tables.facts
    experiment = read_experiment(facts.folder.space, facts.plan["overrides"])
    counts = ", ".join(f"{split.num_rows:,} {split.name}" for split in facts.schema.splits)
    trials = facts.of_role("trial")
    states = {
        state: sum(trial.record.state == state for trial in trials)
        for state in ("COMPLETE", "PRUNED", "FAIL", "RUNNING")
    }
    ended = ", ".join(f"{count} {state.lower()}" for state, count in states.items() if count)
    seconds = sum(metrics.seconds for trial in facts.trials.values() for metrics in trial.epochs)
    best = next((trial for trial in tables.ranked if trial.record.state == "COMPLETE"), None)
    search, budget = experiment.search, experiment.budget
    told = {
        "best": "no trial is complete yet"
        if best is None
        else f"trial {label(best)}, {tables.objective} {best.record.value:.4g}",
        "data": f"{' '.join(filter(None, (experiment.data.source, experiment.data.path)))}: {counts} rows",
        "tasks": _several([f"{task.name} ({task.kind}, {task.main_metric})" for task in facts.tasks]),
        "objective": f"{experiment.objective.metric}, maximised",
        "search": f"sampler {search.sampler.kind}, pruner {search.pruner.kind}, seed {search.seed}",
        "budget": f"{budget.trials} trials of at most {budget.epochs} epochs",
        "trials": f"{len(trials)} started: {ended}" if trials else "none started yet",
        "took": f"{_wall(facts)}; {_duration(seconds)} of training, all trials together",
        "fixed": _several(_fixed(tables)),
        "versions": ", ".join(f"{name} {version}" for name, version in _versions(facts).items()),
        "data digest": facts.schema.data_digest,
    }
    dimensions = "".join(
        f"<dt>{escape(name)}</dt><dd>{escape(str(domain))}</dd>" for name, domain in experiment.space.dimensions.items()
    )
    rules = "".join(f"<dt>where</dt><dd>{escape(rule.text)}</dd>" for rule in experiment.space.constraints)
    rows = "".join(f"<dt>{name}</dt><dd>{escape(text)}</dd>" for name, text in told.items() if text)
    return (
        f'<dl class="facts">{rows}</dl>'
        f"<details><summary>the space: {len(experiment.space.dimensions)} dimensions</summary>"
        f'<dl class="facts">{dimensions}{rules}</dl></details>'
        f"<details><summary>space.yaml</summary><pre>{escape(experiment.text)}</pre></details>"
    )


def _several(texts: Sequence[str]) -> str:
    return ", ".join(texts[:40]) + (f" … and {len(texts) - 40} more" if len(texts) > 40 else "")


def _fixed(tables: Tables) -> list[str]:
    """`name = value` of parameters that are the same in all trials that have them; whose they are if not all's."""
    begun = [trial for trial in tables.ranked if trial.parameters]
    said = []
    for name in dict.fromkeys(name for trial in begun for name in trial.parameters):
        having = [trial for trial in begun if trial.parameters.get(name) is not None]
        values = {trial.parameters[name] for trial in having}
        if len(values) == 1:
            said.append(f"{name} = {values.pop()}{_whose(having, begun)}")
    return said


def _whose(having: Sequence[TrialFacts], begun: Sequence[TrialFacts]) -> str:
    if len(having) == len(begun):
        return ""
    kinds = {kind(trial) for trial in having}
    theirs = sum(kind(trial) in kinds for trial in begun) == len(having)
    return f" ({', '.join(sorted(kinds))} only)" if theirs else " (where it exists)"


def _versions(facts: Facts) -> dict[str, str]:
    return {"mtlsearch": str(facts.plan.get("mtlsearch", "?")), **facts.plan.get("versions", {})}


def _wall(facts: Facts) -> str:
    """From the plan to the last line that any trial or the study wrote."""
    try:
        start = datetime.fromisoformat(str(facts.plan.get("created"))).timestamp()
    except ValueError:
        return "start unknown"
    written = [path for path in (facts.folder.journal, *facts.folder.path.glob("trials/*/*.json*")) if path.exists()]
    end = max((path.stat().st_mtime for path in written), default=start)
    return f"{_duration(max(0.0, end - start))} from its start to what was written last"


def _duration(seconds: float) -> str:
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    return (
        f"{whole // 60} min {whole % 60:02d} s" if whole < 3600 else f"{whole // 3600} h {whole % 3600 // 60:02d} min"
    )


def _reasons(facts: Facts) -> str:
    """Trials by state and by their reason but for its numbers, with the first one's as an example."""
    groups: dict[tuple[str, str], list[tuple[int, int, str]]] = {}
    for trial in facts.of_role("trial"):
        record = trial.record
        key = (record.state, _NUMBER.sub("#", record.reason))
        groups.setdefault(key, []).append((len(trial.epochs), record.number, record.reason))
    if not groups:
        return ""
    rows = [
        (
            state,
            str(len(found)),
            _span([epochs for epochs, _, _ in found]),
            _numbers([number for _, number, _ in found]),
            found[0][2],
        )
        for (state, _), found in sorted(groups.items())
    ]
    return _table(("state", "trials", "epochs", "which", "reason (of the first)"), rows, long=(3, 4), texts=(0,))


def _span(epochs: Sequence[int]) -> str:
    return str(min(epochs)) if min(epochs) == max(epochs) else f"{min(epochs)}–{max(epochs)}"


def _numbers(numbers: Sequence[int]) -> str:
    return ", ".join(map(str, numbers[:12])) + (" …" if len(numbers) > 12 else "")


def _final(tables: Tables) -> Section:
    ranking = tables.facts.final
    if ranking is None:
        reason = "This search has no `final:` section, or none of its final trials has been scored yet."
        return Section("final", "Final ranking", empty=reason)
    seeds = f"Trained again on {ranking.num_seeds} fresh seeds and scored on test; mean ± half of the 95 % interval."
    rest = "" if ranking.complete else " <strong>Not all of these trials have ended yet.</strong>"
    return Section("final", "Final ranking", seeds + rest, body=_final_table(tables, ranking))


def _final_table(tables: Tables, ranking: FinalRanking) -> str:
    tasks = [task for task in tables.tasks if task.name in ranking.metrics]
    ranked_by = () if ranking.metric == "delta" else (ranking.metric,)
    scored = (f"{task.name} {ranking.metrics[task.name]}" for task in tasks)
    heads = ("", "model", *ranked_by, "Δ", "p (Holm)", "verdict", *scored)
    rows = [_final_row(tables, ranking, row) for row in ranking.rows]
    baselines = (_interval(ranking.baselines.get(task.name)) for task in tasks)
    last = ("", "baselines", *("" for _ in heads[2 : len(heads) - len(tasks)]), *baselines)
    notes = "".join(f'<p class="soft">{escape(note)}</p>' for note in ranking.notes)
    return _table(heads, [*rows, last], long=(heads.index("verdict"),), texts=(0, 1)) + notes


def _final_row(tables: Tables, ranking: FinalRanking, row: FinalRow) -> tuple[str, ...]:
    model = str(tables.facts.trials[row.trial].parameters.get("model.kind", ""))
    ranked_by = () if ranking.metric == "delta" else (_interval(row.objective),)
    p_value = "" if row.p_value is None else f"{row.p_value:.3f}"
    scores = (_interval(row.scores.get(task.name)) for task in tables.tasks if task.name in ranking.metrics)
    return (f"trial {row.trial}", model, *ranked_by, _interval(row.delta), p_value, _verdict(ranking, row), *scores)


def _verdict(ranking: FinalRanking, row: FinalRow) -> str:
    if row is ranking.rows[0]:
        place = "best"
    elif row.p_value is None:
        place = "not compared"
    else:
        place = "tied with the best" if row.tied else "behind the best"
    harmed = f"; negative transfer: {', '.join(row.negative_transfer)}" if row.negative_transfer else ""
    return place + harmed


def _interval(value: Interval | None) -> str:
    if value is None:
        return "—"
    if value.low is None or value.high is None:
        return f"{value.mean:.4g}"
    half = (value.high - value.low) / 2
    if half < 1e-6:
        return f"{value.mean:.4g} ± {half:.2g}"
    places = max(0, 1 - math.floor(math.log10(half)))  # two digits of the half width, and no more of the mean
    return f"{value.mean:.{places}f} ± {half:.{places}f}"


def _table(heads: Sequence[str], rows: Sequence[Sequence[str]], *, long: Container[int], texts: Container[int]) -> str:
    def cells(tag: str, values: Sequence[str]) -> str:
        kinds = ["long" if index in long else "text" if index in texts else "" for index in range(len(values))]
        return "".join(
            f'<{tag} class="{kind}">{escape(value)}</{tag}>' for kind, value in zip(kinds, values, strict=True)
        )

    body = "".join(f"<tr>{cells('td', row)}</tr>" for row in rows)
    return f'<div class="scroll"><table><thead><tr>{cells("th", heads)}</tr></thead><tbody>{body}</tbody></table></div>'
