"""The model card: README.md of a model's folder."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from mtlsearch.config import Task
from mtlsearch.config.task import LOWER_IS_BETTER
from mtlsearch.data import DataSchema
from mtlsearch.export.model_folder import PROGRAM, ModelConfig
from mtlsearch.records import ModelRecord, Scores
from mtlsearch.report.final import FinalRanking
from mtlsearch.report.statistics import Interval


@dataclass(frozen=True)
class CardFacts:
    """What the card tells beside the config and the schema."""

    validation: Scores
    """Of the best epoch."""
    test: Scores | None
    record: ModelRecord | None
    final: FinalRanking | None
    """The experiment's, where it has one."""
    epochs: int
    """That the trial trained."""
    trained_with: Mapping[str, str | int | float | bool | None]
    """The trial's whole configuration, flat."""
    signature: str
    chosen: str
    """How the trial was chosen."""


def model_card(config: ModelConfig, schema: DataSchema, facts: CardFacts) -> str:
    """Markdown."""
    return "\n".join(
        [
            *_head(config),
            *_what(config, schema, facts),
            *_scores(config.tasks, facts),
            *_final(config, facts.final),
            *_inputs(schema),
            *_use(config, facts),
            *_trained(facts),
        ]
    )


def _head(config: ModelConfig) -> Iterator[str]:
    yield from ("---", "library_name: mtlsearch", "tags: [multi-task]", "---", "")
    yield f"# {_cell(config.experiment)}, trial {config.trial}: {config.model.kind}"
    yield ""


def _what(config: ModelConfig, schema: DataSchema, facts: CardFacts) -> Iterator[str]:
    train = schema.counts("train")
    steps = f" ({train.num_steps:,} steps)" if schema.has_steps else ""
    size = facts.record
    yield f"- Chosen as: {facts.chosen}."
    yield f"- Tasks: {', '.join(f'{_cell(task.name)} ({task.kind})' for task in config.tasks)}."
    yield f"- Learnt from: `{schema.source}`, {train.num_rows:,} rows{steps} of its training split, data digest "
    yield f"  `{schema.data_digest}`."
    yield f"- Weights: of epoch {config.best_epoch} of {facts.epochs}, the best one on validation."
    if size is not None:
        yield f"- Size: {size.num_parameters:,} parameters, {size.multiply_adds:,} multiply-adds a row."
    yield f"- Written by: mtlsearch {config.mtlsearch}."
    yield ""


def _scores(tasks: tuple[Task, ...], facts: CardFacts) -> Iterator[str]:
    yield from ("## Scores", "", "| Task | Metric | Validation | Test |", "|---|---|---|---|")
    for task in tasks:
        for metric in task.metrics:
            test = None if facts.test is None else facts.test[task.name].get(metric)
            better = "lower" if metric in LOWER_IS_BETTER else "higher"
            shown = f"{_number(facts.validation[task.name].get(metric))} | {_number(test)}"
            yield f"| {_cell(task.name)} | {metric} ({better} is better) | {shown} |"
    yield ""
    if facts.test is None:
        yield "Test was not scored: only the best trials are, once the search has ended."
        yield ""


def _final(config: ModelConfig, final: FinalRanking | None) -> Iterator[str]:
    row = next((row for row in final.rows if row.trial == config.trial), None) if final is not None else None
    if final is None or row is None:
        yield "One seed, so no interval: how much of it is luck, a final ranking tells (`final:` in the space file)."
        yield ""
        return
    yield from ("## Final ranking", "")
    so_far = "" if final.complete else " so far"
    yield f"This configuration again on {final.num_seeds} fresh seeds{so_far}, scored on test: mean and 95 % interval."
    yield ""
    yield from ("| Task | Metric | This | Single-task baseline | Relative gain |", "|---|---|---|---|---|")
    for task, score in row.scores.items():
        cells = (score, final.baselines.get(task), row.gain.get(task))
        yield f"| {_cell(task)} | {final.metrics[task]} | {' | '.join(map(_interval, cells))} |"
    yield ""
    if row.delta is not None:
        yield f"Δ (mean relative gain over the baselines): {_interval(row.delta)}."
    if row.tied:
        yield "It is tied with the best candidate: a paired test finds no difference."
    if row.negative_transfer:
        yield f"Negative transfer, with an interval below zero: {', '.join(map(_cell, row.negative_transfer))}."
    yield ""


def _inputs(schema: DataSchema) -> Iterator[str]:
    columns = (
        ("numbers", schema.numeric),
        ("categories", schema.categorical),
        ("numbers a step", schema.step_numeric),
        ("categories a step", schema.step_categorical),
    )
    yield from ("## Inputs", "")
    for what, encoders in columns:
        if encoders:
            yield f"- {what} ({len(encoders)}): {', '.join(f'`{encoder.name}`' for encoder in encoders)}"
    yield ""
    yield "A missing value is encoded as in training. A category that training did not have is refused, unless it is"
    yield "allowed to count as the unknown one (`--allow-unseen`, or `allow_unseen=True`)."
    yield ""


def _use(config: ModelConfig, facts: CardFacts) -> Iterator[str]:
    yield from ("## Use", "", "```bash", "mtlsearch predict MODEL rows.parquet --out predictions.parquet", "```", "")
    yield from ("```python", "import mtlsearch", "", 'model = mtlsearch.load("MODEL")')
    yield from ("predictions = model.predict(table)  # a pyarrow Table, a pandas DataFrame or a dict of arrays", "```")
    yield ""
    if config.program is not None:
        yield f"There is no {PROGRAM}: {config.program}."
    else:
        yield f"`{PROGRAM}` needs torch alone and takes columns that are encoded already. Read it with"
        yield f'`torch.export.load("{PROGRAM}").module()`; it is {facts.signature},'
        yield "by task: probabilities, or numbers in original units."
    yield ""


def _trained(facts: CardFacts) -> Iterator[str]:
    yield from ("## Trained with", "", "| Key | Value |", "|---|---|")
    yield from (f"| {_cell(name)} | {_cell(str(value))} |" for name, value in facts.trained_with.items())
    yield ""


def _interval(each: Interval | None) -> str:
    if each is None:
        return "–"
    if each.low is None or each.high is None:
        return _number(each.mean)
    return f"{_number(each.mean)} [{_number(each.low)}, {_number(each.high)}]"


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.5g}"


def _cell(text: str) -> str:
    """A name as text: what Markdown or HTML would make of it, is escaped."""
    for mark in "\\|<>*`[]":
        text = text.replace(mark, f"\\{mark}" if mark not in "<>" else {"<": "&lt;", ">": "&gt;"}[mark])
    return " ".join(text.split())
