"""The commands. One call each: what is decided, is decided below.

Exit codes: 0 done; 1 the run failed; 2 the user's input is wrong; 130 interrupted, resumable.
torch, ray and optuna are imported by the commands that need them, and once their input has been read, so that help
and error messages come at once.
"""

from __future__ import annotations

import enum
import signal
import sys
import time
from pathlib import Path
from types import FrameType
from typing import Annotated

import typer

from mtlsearch.errors import ConfigError, Interrupted, MtlsearchError

app = typer.Typer(
    name="mtlsearch",
    help="Distributed search for multi-task models.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)
data_app = typer.Typer(help="The data sets that come with it.", no_args_is_help=True)
app.add_typer(data_app, name="data")


class Engine(enum.StrEnum):
    """Where trials run."""

    RAY = "ray"
    LOCAL = "local"


class Split(enum.StrEnum):
    """A part of an experiment's data."""

    TRAIN = "train"
    VALIDATION = "validation"
    TEST = "test"


class Format(enum.StrEnum):
    """How a leaderboard is printed."""

    TABLE = "table"
    CSV = "csv"
    JSON = "json"


class ReportFormat(enum.StrEnum):
    """What a report is."""

    HTML = "html"
    PNG = "png"


STATUS_SECONDS = 2.0

SpaceFile = Annotated[Path, typer.Argument(metavar="SPACE.YAML", help="The space file.")]
ExperimentDir = Annotated[str, typer.Argument(metavar="DIR", help="An experiment's folder, or s3://bucket/prefix.")]
Overrides = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="Change a value, like search.seed=3; repeatable."),
]
Address = Annotated[
    str | None,
    typer.Option(help="A Ray cluster: auto, or its address. Without it, Ray is started on this machine."),
]
Force = Annotated[bool, typer.Option("--force", help="Replace what is there.")]
EngineOption = Annotated[Engine, typer.Option(help="ray, or local: one trial at a time in this process.")]


@app.command()
def run(
    space: SpaceFile,
    out: Annotated[
        str | None, typer.Option(metavar="DIR", help="The experiment's folder, a new one, or s3://bucket/prefix.")
    ] = None,
    trials: Annotated[int | None, typer.Option(help="Short for --set budget.trials=N.")] = None,
    storage: Annotated[
        str | None, typer.Option(metavar="URL", help="Short for --set search.storage=URL, a PostgreSQL database.")
    ] = None,
    address: Address = None,
    overrides: Overrides = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print the plan and end.")] = False,
    engine: EngineOption = Engine.RAY,
) -> None:
    """Search: train trials, prune, rank, score the best on test."""
    from mtlsearch.space import read_experiment

    changes = [*(overrides or []), *([f"budget.trials={trials}"] if trials is not None else [])]
    changes += [f"search.storage={storage}"] if storage is not None else []
    experiment = read_experiment(space, changes)

    from mtlsearch import view
    from mtlsearch.orchestrate.plan import default_folder, make_plan

    plan = make_plan(experiment)
    folder = out or default_folder(experiment.name)
    if dry_run:
        view.print_plan(plan)
        return
    from mtlsearch.orchestrate.drive import Driver

    _interrupt_on_sigterm()
    with view.interruptible(folder), view.conversions():
        view.print_result(Driver(view.console, engine.value, address).run(plan, folder))


@app.command()
def resume(directory: ExperimentDir, address: Address = None, engine: EngineOption = Engine.RAY) -> None:
    """Go on with a search after a crash or Ctrl-C, from what its folder holds."""
    from mtlsearch.folder import ExperimentFolder

    folder = ExperimentFolder.open(directory)

    from mtlsearch import view
    from mtlsearch.orchestrate.drive import Driver

    _interrupt_on_sigterm()
    with view.interruptible(directory), view.conversions():
        Driver(view.console, engine.value, address).resume(folder)
        view.print_result(folder)


@app.command()
def check(space: SpaceFile, overrides: Overrides = None) -> None:
    """Validate a space file, then train two steps of its smallest and its largest configuration."""
    from mtlsearch.space import read_experiment

    experiment = read_experiment(space, overrides or [])

    from mtlsearch import view
    from mtlsearch.orchestrate.plan import check_machine, make_plan

    plan = make_plan(experiment)
    check_machine(experiment)
    view.print_plan(plan)
    from mtlsearch.data import open_store
    from mtlsearch.orchestrate.check import probe_extremes

    with view.conversions():
        view.print_schema(open_store(experiment.data).schema)
    view.print_probes(probe_extremes(plan))


@app.command()
def init(
    data: Annotated[str, typer.Argument(metavar="DATA", help="Parquet, CSV, Feather, a folder or glob of them.")],
    tasks: Annotated[
        str | None, typer.Option(metavar="A,B", help="Columns to predict; without it they are guessed.")
    ] = None,
    out: Annotated[Path, typer.Option(metavar="FILE", help="The space file, a new one.")] = Path("space.yaml"),
) -> None:
    """Look at a table and write a starter space file for it."""
    from mtlsearch import starter, view

    wanted = None if tasks is None else [name.strip() for name in tasks.split(",") if name.strip()]
    found = starter.start(data, wanted, out)
    starter.write(found, out)
    view.print_starter(found, out, guessed=wanted is None)


@app.command()
def leaderboard(
    directory: ExperimentDir,
    output: Annotated[Format, typer.Option("--format", help="table, csv or json.")] = Format.TABLE,
    wandb: Annotated[bool, typer.Option("--wandb", help="Show it as a W&B workspace; prints its URL.")] = False,
) -> None:
    """Print the ranked trials of an experiment, finished or not."""
    from mtlsearch.folder import ExperimentFolder

    folder = ExperimentFolder.open(directory)
    if wandb:
        from mtlsearch.orchestrate.mirror import publish_workspace

        sys.stdout.write(publish_workspace(folder) + "\n")
        return

    from mtlsearch import view
    from mtlsearch.report import read_final, read_leaderboard
    from mtlsearch.search import read_records, study_of

    records = read_records(study_of(folder))
    board = read_leaderboard(folder, records)
    if output == Format.TABLE:
        view.print_leaderboard(board)
        view.print_final(read_final(folder, records))
    else:
        sys.stdout.write(board.csv() if output == Format.CSV else board.json() + "\n")


@app.command()
def report(
    directory: ExperimentDir,
    output: Annotated[
        ReportFormat, typer.Option("--format", help="html: one file; png: a picture a chart.")
    ] = ReportFormat.HTML,
    out: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Where to; else DIR/report.html, or DIR/plots.")
    ] = None,
    force: Force = False,
) -> None:
    """Write the pictures of an experiment, finished or not, as one HTML file that opens from disk."""
    from mtlsearch.folder import ExperimentFolder

    folder = ExperimentFolder.open(directory)

    from mtlsearch import view
    from mtlsearch.report.write import write_plots, write_report

    as_html = output == ReportFormat.HTML
    written = [write_report(folder, out, force=force)] if as_html else write_plots(folder, out, force=force)
    folder.send(*written)
    view.print_written([folder.shown(path) for path in written])


@app.command()
def export(
    directory: ExperimentDir,
    out: Annotated[Path, typer.Option(metavar="MODEL", help="The model's folder, a new one.")],
    trial: Annotated[str, typer.Option(metavar="N|best", help="A trial or baseline by its number.")] = "best",
    force: Force = False,
) -> None:
    """Write a trial's model as a folder of its own: weights, encoders, model card, torch.export program."""
    from mtlsearch.export.request import trial_number
    from mtlsearch.folder import ExperimentFolder

    folder, number = ExperimentFolder.open(directory), trial_number(trial)

    from mtlsearch.export.trial import export_trial

    _clear_up_on_sigterm()
    sys.stdout.write(f"{export_trial(folder, number, out, force).sentence(out)}\n")


@app.command()
def predict(
    model: Annotated[Path, typer.Argument(metavar="MODEL", help="A folder that `mtlsearch export` wrote.")],
    data: Annotated[
        str | None, typer.Argument(metavar="DATA", help="Raw rows: Parquet, CSV, Feather, a folder or glob of them.")
    ] = None,
    *,
    out: Annotated[Path, typer.Option(metavar="FILE", help="The predictions: .parquet, .feather, .arrow or .csv.")],
    split: Annotated[
        Split | None, typer.Option(help="Instead of DATA: a split of the data that the model learnt from.")
    ] = None,
    keep: Annotated[
        list[str] | None, typer.Option(metavar="COLUMN", help="A column of DATA that passes through; repeatable.")
    ] = None,
    static: Annotated[
        str | None, typer.Option(metavar="FILE", help="Of long sequences: a file with one row a sequence.")
    ] = None,
    allow_unseen: Annotated[
        bool, typer.Option("--allow-unseen", help="Take categories that training did not have for unknown ones.")
    ] = False,
    batch_rows: Annotated[int, typer.Option(min=1, help="Rows at a time.")] = 16_384,
    force: Force = False,
) -> None:
    """Predict raw rows with an exported model."""
    from mtlsearch.export.request import Request

    request = Request(data, split.value if split else None, tuple(keep or ()), static, allow_unseen, batch_rows)
    request.check(out, force)

    from rich.console import Console

    from mtlsearch.conversion_bar import ConversionBar
    from mtlsearch.data.progress import shown_by
    from mtlsearch.export.predict import predict_file

    _clear_up_on_sigterm()
    with shown_by(ConversionBar(Console(stderr=True))):
        predicted = predict_file(model, request, out)
    sys.stderr.writelines(f"note: {sentence}\n" for sentence in predicted.notes)
    rows = "row" if predicted.num_rows == 1 else "rows"
    sys.stdout.write(f"{predicted.num_rows:,} {rows}: {out}\n")


@app.command()
def status(
    directory: ExperimentDir,
    output: Annotated[Format, typer.Option("--format", help="table or json.")] = Format.TABLE,
    watch: Annotated[bool, typer.Option("--watch", help="Show it anew every two seconds, until nothing runs.")] = False,
) -> None:
    """Say how a search stands, and what runs where."""
    from mtlsearch.folder import ExperimentFolder

    if output == Format.CSV:
        raise ConfigError("--format of a status must be table or json, found csv.")
    folder = ExperimentFolder.open(directory)

    from mtlsearch import view
    from mtlsearch.report.standing import read_standing

    while True:
        standing = read_standing(folder)
        if watch and output == Format.TABLE:
            view.console.clear()
        if output == Format.JSON:
            sys.stdout.write(standing.json() + "\n")
        else:
            view.print_standing(standing)
        if not watch or standing.driver is None:
            return
        time.sleep(STATUS_SECONDS)
        folder = ExperimentFolder.open(directory)  # one in a storage is fetched anew


@app.command()
def stop(
    directory: ExperimentDir,
    wait: Annotated[float, typer.Option(metavar="SECONDS", help="How long to wait for its end.")] = 120.0,
) -> None:
    """End a search from another terminal, cleanly; `mtlsearch resume` goes on with it."""
    from mtlsearch.folder import ExperimentFolder

    folder = ExperimentFolder.open(directory)
    if folder.driver() is None:
        raise ConfigError(f"{directory} must be searched now to be stopped, but nobody drives it.")
    folder.ask_to_stop()
    deadline = time.monotonic() + wait
    while (driver := folder.driver()) is not None:
        if time.monotonic() > deadline:
            raise MtlsearchError(f"process {driver} still drives {directory}, but it knows that it is to stop.")
        time.sleep(0.2)
    sys.stdout.write(f"stopped. Go on with: mtlsearch resume {directory}\n")


@app.command()
def simulate(
    directory: ExperimentDir,
    pruner: Annotated[
        list[str] | None,
        typer.Option(metavar="KIND", help="As a space file has it: median, or '{kind: median, …}'; repeatable."),
    ] = None,
    workers: Annotated[int, typer.Option(min=1, help="Trials side by side.")] = 1,
    output: Annotated[Format, typer.Option("--format", help="table, csv or json.")] = Format.TABLE,
) -> None:
    """Replay the learning curves of an experiment under other pruners, without training."""
    from mtlsearch.folder import ExperimentFolder

    folder = ExperimentFolder.open(directory)

    from mtlsearch.orchestrate import simulate as replays

    recording = replays.read_recording(folder)
    own = recording.experiment.search.pruner
    pruners = replays.read_pruners(folder, pruner) if pruner else replays.every_pruner(own)
    compared = replays.compare(recording, pruners, workers)

    from mtlsearch import view

    if output == Format.TABLE:
        view.print_comparison(compared)
    else:
        sys.stdout.write(compared.csv() if output == Format.CSV else compared.json() + "\n")


@app.command()
def sync(directory: ExperimentDir) -> None:
    """Send W&B what it has not got of an experiment, once."""
    from mtlsearch.folder import ExperimentFolder

    folder = ExperimentFolder.open(directory)

    from mtlsearch.orchestrate.mirror import send_rest

    sys.stdout.write(send_rest(folder) + "\n")


@app.command()
def schema() -> None:
    """Print the JSON schema of a space file, for editors."""
    import json

    from mtlsearch.space import json_schema

    sys.stdout.write(json.dumps(json_schema(), indent=1) + "\n")


@data_app.command("list")
def list_data() -> None:
    """Name the data sets."""
    from mtlsearch import view

    view.print_sources()


@data_app.command()
def describe(space: SpaceFile, overrides: Overrides = None) -> None:
    """Read the data of a space file; print its tasks, columns and splits."""
    from mtlsearch import view
    from mtlsearch.data import open_store
    from mtlsearch.space import read_experiment

    data = read_experiment(space, overrides or []).data
    with view.conversions():
        view.print_schema(open_store(data).schema)


def main() -> None:
    """The console script: user's mistakes become one message and exit code 2, never a traceback."""
    try:
        app(prog_name="mtlsearch", standalone_mode=True)
    except ConfigError as error:
        _fail(error, 2)
    except Interrupted as interrupted:
        _fail(interrupted, 130)
    except (MtlsearchError, OSError) as error:  # OSError: a full disk, a file that may not be read
        _fail(error, 1)


def _interrupt_on_sigterm() -> None:
    """Makes SIGTERM what Ctrl-C is: Slurm, Kubernetes and `ray job stop` send it."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)


def _clear_up_on_sigterm() -> None:
    """Makes SIGTERM an exception, so that what is half-written goes with it."""

    def end(number: int, _frame: FrameType | None) -> None:
        sys.exit(128 + number)

    signal.signal(signal.SIGTERM, end)


def _fail(error: Exception, code: int) -> None:
    sys.stderr.write(f"mtlsearch: {error}\n")
    sys.exit(code)
