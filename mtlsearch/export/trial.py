"""A trial of an experiment → a model's folder."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from pydantic import TypeAdapter, ValidationError
from safetensors.torch import save

from mtlsearch.config import DataConfig
from mtlsearch.errors import ConfigError, Where
from mtlsearch.export.card import CardFacts, model_card
from mtlsearch.export.column_kinds import learnt_kinds
from mtlsearch.export.model_folder import CARD, CONFIG, PROGRAM, SCHEMA, WEIGHTS, ModelConfig, check_place, write_model
from mtlsearch.export.program import signature, write_program
from mtlsearch.folder import ExperimentFolder, TrialFolder
from mtlsearch.models import MultiTaskModel, build_model
from mtlsearch.records import TrialRecord
from mtlsearch.report.experiment import Facts, TrialFacts, read_experiment_facts
from mtlsearch.space import flatten
from mtlsearch.train.checkpoint import Checkpoint, Checkpoints
from mtlsearch.train.tensors import input_spec

_DATA: TypeAdapter[DataConfig] = TypeAdapter(DataConfig)


@dataclass(frozen=True)
class ExportedTrial:
    """What was exported, and why this."""

    trial: int
    chosen: str
    """For people: `the best of 40 complete trials`."""
    program: str | None
    """Why there is no program; None where there is one."""

    def sentence(self, out: Path) -> str:
        """For people."""
        without = f" (without a torch.export program: {self.program})" if self.program else ""
        return f"trial {self.trial}, {self.chosen}: {out}{without}"


def export_trial(folder: ExperimentFolder, number: int | None, out: Path, force: bool = False) -> ExportedTrial:
    """Writes the trial's best weights on validation, with all that raw rows need, as a new folder.

    Args:
        number: of a trial, a baseline or a final trial; None for the best: of the final ranking where there is one,
            else of the complete trials by validation.
        force: whether a model that is there already is replaced.
    Raises:
        ConfigError: there is no such trial, it has no weights, or the place is taken. Nothing is written.
    """
    check_place(out, force)
    facts = read_experiment_facts(folder)
    trial, chosen = _best(facts) if number is None else (_numbered(facts, number), "as asked for")
    config, model = _restored(facts, trial)
    schema, spec = facts.schema, config.inputs
    reasons: list[str | None] = []

    def write(aside: Path) -> None:
        weights = {name: tensor.contiguous().clone() for name, tensor in model.state_dict().items()}
        (aside / WEIGHTS).write_bytes(save(weights))  # save_file would make a file that nobody else may read
        reasons.append(write_program(model, schema, spec, aside / PROGRAM))
        written = config.model_copy(update={"program": reasons[-1]})
        (aside / CONFIG).write_text(written.model_dump_json(indent=1), encoding="utf-8")
        (aside / SCHEMA).write_text(schema.model_dump_json(indent=1), encoding="utf-8")
        card = model_card(written, schema, _card_facts(facts, trial, written, chosen))
        (aside / CARD).write_text(card, encoding="utf-8")

    write_model(out, write, force)
    return ExportedTrial(trial.number, chosen, reasons[-1])


def _best(facts: Facts) -> tuple[TrialFacts, str]:
    if facts.final is not None and facts.final.rows:
        so_far = "" if facts.final.complete else " so far"
        return facts.trials[facts.final.rows[0].trial], f"the best of the final ranking{so_far}"
    complete = [trial for trial in facts.ranked() if trial.record.state == "COMPLETE"]
    if not complete:
        raise ConfigError(
            f"{facts.folder.name} must have a complete trial to export, but has {_counted(facts.records)}. Go on with "
            f"`mtlsearch resume {facts.folder.name}`, or name a trial with --trial."
        )
    return complete[0], f"the best of {len(complete)} complete trials on validation"


def _counted(records: Sequence[TrialRecord]) -> str:
    """What there is instead: `3 trials, none complete`."""
    trials = sum(record.role == "trial" for record in records)
    return f"{trials} trials, none of them complete" if trials else "no trial yet"


def _numbered(facts: Facts, number: int) -> TrialFacts:
    if number not in facts.trials:
        known = f"it has 0 to {max(facts.trials)}" if facts.trials else "it has none yet"
        raise ConfigError(f"--trial must be a trial of {facts.folder.name}, but there is no trial {number}; {known}.")
    return facts.trials[number]


def _restored(facts: Facts, trial: TrialFacts) -> tuple[ModelConfig, MultiTaskModel]:
    """The trial's model with its best weights, and what it is."""
    record, order = trial.record, trial.order
    if record.state in ("FAIL", "RUNNING"):
        how = f"failed: {record.reason}" if record.state == "FAIL" else "has not ended"
        raise ConfigError(f"a trial must have been trained to be exported, but trial {record.number} {how}.")
    if order is None and record.folder:
        raise ConfigError(
            f"a trial must be exported where its files are, but those of trial {record.number} are in {record.folder}. "
            "Do it there, or name another trial with --trial."
        )
    folder = facts.folder.trial(record.number)
    state = _best_state(folder, trial)
    if order is None or state is None or not trial.epochs:
        raise ConfigError(
            f"trial {record.number} must have kept its weights to be exported, but {folder.checkpoint} has none. "
            "Export another one with --trial."
        )
    from mtlsearch import __version__

    tasks = tuple(task for task in facts.schema.tasks if task.name in order.tasks)
    spec = input_spec(facts.schema)
    model = build_model(order.config.model, spec, tasks, order.seed)
    try:
        model.load_state_dict(state.model)
    except (RuntimeError, TypeError, AttributeError) as error:  # other names or shapes, or no weights at all
        raise _damaged("the file must be the trial's own checkpoint", folder.checkpoint) from error
    if trial.test is not None and any(task.name not in trial.test for task in tasks):
        raise _damaged("the file must be the trial's test scores, of all its tasks", folder.test)
    config = ModelConfig(
        mtlsearch=__version__,
        experiment=facts.name,
        trial=record.number,
        role=record.role,
        state=record.state,
        best_epoch=state.best_epoch,
        model=order.config.model,
        seed=order.seed,
        inputs=spec,
        tasks=tasks,
        data=(data := _data(facts)),
        program=None,
        kinds=learnt_kinds(data, facts.schema),
    )
    return config, model


def _best_state(folder: TrialFolder, trial: TrialFacts) -> Checkpoint | None:
    """The best checkpoint, held against what the trial measured; None where there is none."""
    place = folder.checkpoint
    try:
        state = Checkpoints(folder.checkpoints).best(torch.device("cpu"))
    except ConfigError as error:
        raise ConfigError(error.message, Where(place)) from error
    if state is None or not trial.epochs:
        return state
    best = next((epoch for epoch in trial.epochs if epoch.epoch == state.best_epoch), None)
    if best is None:
        raise _damaged(f"the file must have epoch {state.best_epoch}, whose weights were kept", folder.metrics)
    if not math.isclose(best.objective, state.best_objective, rel_tol=1e-9, abs_tol=1e-12):
        raise _damaged(f"the file must be the trial's own checkpoint, of {folder.metrics.name}'s best epoch", place)
    return state


def _damaged(must: str, place: Path) -> ConfigError:
    return ConfigError(f"{must}, but is damaged or another's. Restore it from a copy.", Where(place))


def _data(facts: Facts) -> DataConfig:
    try:
        return _DATA.validate_json(json.dumps(facts.plan.get("data")))
    except ValidationError as error:
        raise ConfigError(
            "`data` must be what `mtlsearch run` wrote, but is damaged. Restore the file from a copy.",
            Where(facts.folder.plan),
        ) from error


def _card_facts(facts: Facts, trial: TrialFacts, config: ModelConfig, chosen: str) -> CardFacts:
    best = next(epoch for epoch in trial.epochs if epoch.epoch == config.best_epoch)
    assert trial.order is not None
    trained: Mapping[str, Any] = flatten(trial.order.config)
    return CardFacts(
        validation=best.validation,
        test=trial.test,
        record=trial.model,
        final=facts.final,
        epochs=len(trial.epochs),
        trained_with=trained,
        signature=signature(config.inputs),
        chosen=chosen,
    )
