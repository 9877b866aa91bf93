"""What the commands print. Tables and colours are rich's; nothing here decides anything."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from mtlsearch.config import DataConfig
from mtlsearch.errors import MtlsearchError
from mtlsearch.folder import ExperimentFolder
from mtlsearch.folder.storage import Place
from mtlsearch.orchestrate.plan import Plan
from mtlsearch.records import State
from mtlsearch.report import (
    SHOWN_TRIALS,
    FinalRanking,
    Leaderboard,
    final_notes,
    final_table,
    read_final,
    read_leaderboard,
    short,
    terminal_table,
)
from mtlsearch.search import read_records, study_of
from mtlsearch.space import flatten
from mtlsearch.tracking.terminal import format_seconds

if TYPE_CHECKING:
    from mtlsearch.data import DataSchema
    from mtlsearch.orchestrate.check import Probe
    from mtlsearch.orchestrate.simulate import Comparison
    from mtlsearch.report.standing import Standing
    from mtlsearch.starter import Proposed, Starter, Surveyed

console = Console()
PLAN_SAMPLES = 5
"""Configurations that a plan shows; fewer than the trials that a sampler draws before it looks at results."""

SHOWN_SCORES = 16
"""Test scores of the winner."""

SHOWN_COLUMNS = 60
"""Columns, classes or labels that a data set's description names."""


@contextmanager
def interruptible(place: Place) -> Iterator[None]:
    """Ctrl-C ends with exit code 130 and says how to go on."""
    try:
        yield
    except KeyboardInterrupt:
        say = (
            f"Go on with: mtlsearch resume {shlex.quote(str(place))}"
            if ExperimentFolder.at(place).plan.exists()
            else "Nothing was written."
        )
        sys.stderr.write(f"mtlsearch: interrupted. {say}\n")
        sys.exit(130)


def print_plan(plan: Plan) -> None:
    """Data, tasks, space, budget, resources, and the first configurations that a random draw gives."""
    experiment = plan.experiment
    budget, resources = experiment.budget, experiment.resources
    wall = f", at most {format_seconds(budget.wall)}" if budget.wall else ""
    compared = experiment.objective.metric == "delta"
    baselines = f"{_counted(len(plan.tasks), 'single-task baseline')}, then " if compared else ""
    _line("experiment", experiment.name)
    _line("data", " ".join(filter(None, (experiment.data.source, experiment.data.path))))
    _line("tasks", ", ".join(f"{task.name} ({task.kind}, {task.main_metric})" for task in plan.tasks))
    _line("objective", f"{experiment.objective.metric}, maximised")
    search = experiment.search
    _line("search", f"sampler {search.sampler.kind}, pruner {search.pruner.kind}, seed {search.seed}")
    _line("budget", f"{baselines}{budget.trials} trials of at most {budget.epochs} epochs{wall}")
    if (final := experiment.final) is not None:
        again = f"the {final.top_k} best trials and {_counted(len(plan.tasks), 'baseline')} again"
        _line("final", f"{again} on {_counted(final.seeds, 'fresh seed')}: up to {plan.num_finals} trials more")
    if plan.earlier is not None:
        _line("warm start", plan.earlier.sentence)
    workers = _counted(resources.most_workers, "worker")
    if resources.least_workers < resources.most_workers:
        workers = f"{resources.least_workers} to {workers}"
    each = f"{_counted(resources.cpus_per_worker, 'CPU')}, {resources.gpus_per_worker:g} GPUs"
    _line("resources", f"{workers} a trial, {each} a worker")
    dimensions = experiment.space.dimensions
    grid = experiment.space.grid_size()
    _line("space", f"{len(dimensions)} dimensions" + (f", {grid:,} combinations" if grid else ""))
    for name, domain in dimensions.items():
        console.print(f"  {name}: {domain}", markup=False, highlight=False, soft_wrap=True)
    for constraint in experiment.space.constraints:
        console.print(f"  where {constraint.text}", markup=False, highlight=False, soft_wrap=True)
    if plan.never_proposed:
        _line("never proposed", f"experts {', '.join(plan.never_proposed)}: they read sequences, these rows are none")
    configurations = plan.first(PLAN_SAMPLES)
    _line(f"the first {len(configurations)} configurations", "")
    for config in configurations:
        row = "  ".join(f"{name}={short(value)}" for name, value in flatten(config).items() if value is not None)
        console.print(f"  {row}", markup=False, highlight=False, soft_wrap=True)


def print_written(paths: Sequence[str]) -> None:
    """Files that were written, a line each."""
    for path in paths:
        console.print(path, markup=False, highlight=False, soft_wrap=True)
    if not paths:
        console.print("There is nothing to draw yet.", highlight=False)


def print_probes(probes: Sequence[Probe]) -> None:
    """What two steps of the extreme configurations took."""
    for probe in probes:
        took = f"{probe.step_seconds * 1000:.0f} ms a step, about {format_seconds(probe.epoch_seconds)} an epoch"
        console.print(f"{probe.name} configuration: {probe.num_parameters:,} parameters, {took}", highlight=False)


def print_result(folder: ExperimentFolder) -> None:
    """The leaderboard's top, the winner's test scores, and where everything is.

    Raises:
        MtlsearchError: every trial failed.
    """
    records = read_records(study_of(folder))
    board = read_leaderboard(folder, records)
    print_leaderboard(board)
    final = read_final(folder, records)
    print_final(final)
    winner = next((row for row in board.rows if row["role"] == "trial" and row["state"] == "COMPLETE"), None)
    if winner is not None and final is None:  # one seed of the trial that was the luckiest tells less
        _line(f"trial {winner['trial']} on test", _test_scores(winner))
    _line("everything is in", folder.name)
    trials = [row for row in board.rows if row["role"] == "trial"]
    if trials and all(row["state"] == "FAIL" for row in trials):
        raise MtlsearchError(f"every trial failed. Trial {trials[0]['trial']}: {trials[0]['reason']}")


def _test_scores(row: Mapping[str, Any]) -> str:
    found = {
        name.removeprefix("test/"): row[name] for name in row if name.startswith("test/") and row[name] is not None
    }
    shown = [f"{name} {short(value)}" for name, value in list(found.items())[:SHOWN_SCORES]]
    more = [f"… {len(found) - SHOWN_SCORES} more in leaderboard.csv"] if len(found) > SHOWN_SCORES else []
    return "  ".join(shown + more)


def print_leaderboard(board: Leaderboard) -> None:
    """The first trials, with the columns that fit; the CSV has all."""
    trials = sum(row["role"] == "trial" for row in board.rows)
    if not board.rows:
        console.print("no trial yet")
        return
    console.print(terminal_table(board, console.width))
    _print_elsewhere(board)
    if trials > SHOWN_TRIALS:
        console.print(f"… and {trials - SHOWN_TRIALS} more, all in leaderboard.csv", highlight=False)


def _print_elsewhere(board: Leaderboard) -> None:
    """Whose the running trials are that other drivers of the study have."""
    running: dict[str, list[str]] = {}
    for row in board.rows:
        if row["state"] == "RUNNING" and row.get("folder") is not None:
            running.setdefault(row["folder"], []).append(str(row["trial"]))
    for folder, numbers in running.items():
        _line("running elsewhere", f"{', '.join(numbers)}, by the driver of {folder}; if it is gone, resume it there")


def print_final(ranking: FinalRanking | None) -> None:
    """The final ranking on test, where there is one."""
    if ranking is None:
        return
    seeds = _counted(ranking.num_seeds, "fresh seed")
    _line("final ranking", f"{seeds}, on test; ± is half of a 95 % interval; p is Holm's, against the best")
    console.print(final_table(ranking, console.width))
    for note in final_notes(ranking):
        _line("note", note)


def print_comparison(comparison: Comparison) -> None:
    """A line a pruner, what it saves and what it loses."""
    table = Table(box=None, header_style="bold", pad_edge=False)
    table.add_column("pruner")
    for heading in ("best", "loss", "epochs", "time", "complete", "pruned", "failed", "censored"):
        table.add_column(heading, justify="right", no_wrap=True)
    for each in comparison.outcomes:
        best = "none" if each.best is None else f"{each.best:.5g}"
        loss = "" if each.loss is None else f"{each.loss:.3g}"
        counts = (each.complete, each.pruned, each.failed, each.censored)
        named = f"{each.pruner} (own)" if each.is_own else each.pruner
        table.add_row(escape(named), best, loss, str(each.epochs), format_seconds(each.seconds), *map(str, counts))
    console.print(table)
    for note in comparison.notes:
        _line("note", note)


def print_standing(standing: Standing) -> None:
    """How a search stands, and every process that trains."""
    _line("experiment", standing.name)
    doing = f"driven by process {standing.driver}" if standing.driver else "not running"
    _line("driver", f"{doing}, stopping" if standing.stopping else doing)
    counts = [f"{standing.counts[state]} {state.lower()}" for state in get_args(State) if standing.counts.get(state)]
    _line("trials", f"{', '.join(counts) or 'none begun'}, of {standing.num_trials}")
    for role, (ended, begun) in standing.others.items():
        _line(f"{role} trials", f"{ended} of {begun} begun have ended")
    if standing.best is not None:
        _line("best", f"trial {standing.best_trial}, objective {short(standing.best)}")
    eta = "" if standing.eta is None else f", about {format_seconds(standing.eta)} to go"
    _line("time", f"{format_seconds(standing.seconds)} so far{eta}")
    if standing.nodes:
        console.print(_machines(standing))
    if standing.ranks:
        console.print(_ranks(standing))


def _machines(standing: Standing) -> Table:
    shown = Table(box=None, header_style="bold", pad_edge=False)
    for heading in ("host", "CPUs", "GPUs", "ranks", ""):
        shown.add_column(heading, justify="left" if heading in ("host", "") else "right")
    for node in standing.nodes:
        here = sum(rank["node"] == node["node"] for rank in standing.ranks)
        leaving = "about to go" if node["leaving"] else ""
        shown.add_row(escape(node["host"]), f"{node['cpus']:g}", f"{node['gpus']:g}", str(here), leaving)
    return shown


def _ranks(standing: Standing) -> Table:
    shown = Table(box=None, header_style="bold", pad_edge=False)
    for heading in ("trial", "rank", "host", "process", "epoch", "step", "CPU", "memory", "GPU", "GPU memory", "heard"):
        shown.add_column(heading, justify="left" if heading == "host" else "right")
    for rank in standing.ranks:
        shown.add_row(
            str(rank["trial"]),
            str(rank["rank"]),
            escape(rank["host"]),
            str(rank["pid"]),
            str(rank["epoch"]),
            str(rank["step"]),
            f"{rank['cpu']:.0f} %",
            _bytes(rank["memory"]),
            "" if rank["gpu"] is None else f"{rank['gpu']:.0f} %",
            "" if rank["gpu_memory"] is None else _bytes(rank["gpu_memory"]),
            f"{rank['seconds']:.0f}s ago",
        )
    return shown


def _bytes(count: int) -> str:
    return f"{count / 2**30:.1f} GB" if count >= 2**30 else f"{count / 2**20:.0f} MB"


def print_sources() -> None:
    """The sources, with what their configs say of them."""
    for source in _sources():
        name = source.model_fields["source"].default
        console.print(f"{name}: {source.__doc__}", markup=False, highlight=False, soft_wrap=True)


def print_schema(schema: DataSchema) -> None:
    """Tasks, columns and splits of a data set."""
    _line("source", f"{schema.source} ({schema.data_digest})")
    for index, task in enumerate(schema.tasks):
        _line(f"task {task.name}", _described_task(schema, index))
    kinds = [f"{encoder.name} ({encoder.kind})" for encoder in schema.numeric]
    _columns("numeric columns", kinds)
    _columns("categorical columns", [f"{each.name} ({each.cardinality})" for each in schema.categorical])
    if schema.has_steps:
        _columns("numbers a step", [f"{encoder.name} ({encoder.kind})" for encoder in schema.step_numeric])
        _columns("categories a step", [f"{each.name} ({each.cardinality})" for each in schema.step_categorical])
    for counts in schema.splits:
        steps = f", {counts.num_steps:,} steps" if schema.has_steps else ""
        _line(counts.name, f"{counts.num_rows:,} rows{steps}")
    for note in schema.notes:
        _line("note", note)


def print_starter(starter: Starter, out: Path, *, guessed: bool) -> None:
    """What `mtlsearch init` saw, what it suspects, and what comes next."""
    table, proposal = starter.table, starter.proposal
    sampled = f" (looked at {table.num_sampled:,} of them)" if table.num_sampled < table.num_rows else ""
    _line("table", f"{table.num_rows:,} rows{sampled}, {len(table.columns)} columns")
    shown = Table(box=None, header_style="bold", pad_edge=False)
    for heading in ("column", "kind", "different", "missing", "most frequent"):
        shown.add_column(heading, justify="right" if heading in ("different", "missing") else "left")
    for column in list(table.columns.values())[:SHOWN_COLUMNS]:
        share = column.missing / max(1, len(column.values))
        examples = ", ".join(escape(short(value)) for value in list(column.counts)[:3])
        shown.add_row(
            escape(column.name), column.type.kind, f"{column.num_distinct:,}", f"{share:.1%}" if share else "", examples
        )
    console.print(shown)
    if len(table.columns) > SHOWN_COLUMNS:
        console.print(f"… and {len(table.columns) - SHOWN_COLUMNS:,} columns more", highlight=False)
    for task in proposal.tasks:
        _line(f"task {task.column}", _proposed(task, table.columns[task.column]))
    if guessed and proposal.others:
        _line("others that could be tasks", _listed(proposal.others, 8) + " (choose with --tasks a,b)")
    for name, use in ((proposal.group, "group"), (proposal.split, "split")):
        if name is not None:
            _line(use, name)
    for leak in starter.leaks:
        _line("suspect", f"{leak.column} alone predicts {leak.task} ({leak.metric} {leak.value:.4f}). Is it a leak?")
    for note in starter.notes:
        _line("note", note)
    _line("written", f"{out}. Next: mtlsearch check {shlex.quote(str(out))}")


def _proposed(task: Proposed, column: Surveyed) -> str:
    missing = f"; {column.missing:,} missing" if column.missing else ""
    if task.kind == "regression":
        return f"regression; {min(column.counts):.4g} to {max(column.counts):.4g}{missing}"
    if task.kind == "multiclass":
        return f"multiclass; {column.num_distinct} classes{missing}"
    positive = next(value for value in column.counts if value == (True if task.positive is None else task.positive))
    count = column.counts[positive]
    return (
        f"binary; {count:,} of {column.num_present:,} are {short(positive)} ({count / column.num_present:.1%}){missing}"
    )


def _described_task(schema: DataSchema, index: int) -> str:
    """Kind, metric, and what the training rows hold."""
    task, train = schema.tasks[index], schema.counts("train")
    unit = f" {task.unit}" if task.unit else ""
    total = train.num_steps if task.per_step else train.num_rows
    missing, frequencies = train.missing[index], train.frequencies[index]
    where = " a step" if task.per_step else ""
    parts = [f"{task.kind}{where}, {task.main_metric}"]
    if task.kind == "regression":
        parts.append(f"mean {schema.label_mean[index]:.4g}{unit}, deviation {schema.label_std[index]:.4g}")
    elif task.kind == "binary":
        parts.append(f"{frequencies[0]:,} of {total - missing:,} positive ({frequencies[0] / (total - missing):.2%})")
    else:
        named = zip(task.classes, frequencies, strict=True)
        parts.append(_listed([f"{name} {count:,}" for name, count in named]))
    if missing:
        parts.append(f"{missing:,} of {total:,} missing")
    return "; ".join(parts)


def _columns(label: str, names: Sequence[str]) -> None:
    if names:
        _line(f"{len(names)} {label}", _listed(names))


def _listed(names: Sequence[str], most: int = SHOWN_COLUMNS) -> str:
    more = f", … {len(names) - most:,} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more


@contextmanager
def conversions() -> Iterator[None]:
    """Within it, a conversion that takes long shows how far it is."""
    from mtlsearch.conversion_bar import ConversionBar
    from mtlsearch.data.progress import shown_by

    with shown_by(ConversionBar(console)):
        yield


def _sources() -> list[Any]:
    union, *_ = get_args(DataConfig)
    return list(get_args(union))


def _counted(count: int, noun: str) -> str:
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def _line(label: str, text: str) -> None:
    console.print(f"[bold]{label}[/bold]: ", end="")
    console.print(text, markup=False, highlight=False, soft_wrap=True)
