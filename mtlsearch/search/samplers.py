"""Samplers over the space's tree.

Optuna's samplers know flat spaces; ours is a tree with constraints, and a search must go on after a crash as if
nothing had happened. `TreeSampler` puts any Optuna sampler behind both: it draws whole configurations, draws
again while a constraint is violated, and seeds the sampler anew for each trial from (seed, trial number), so
that what is proposed depends on the study alone. (A sampler that is made again after a crash with its first
seed would repeat its first draws.)
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, assert_never

import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.samplers import BaseSampler
from optuna.study import Study
from optuna.trial import FrozenTrial, TrialState

from mtlsearch.config.search import (
    CmaEsConfig,
    GpConfig,
    GridConfig,
    QmcConfig,
    RandomConfig,
    SamplerConfig,
    TpeConfig,
)
from mtlsearch.config.trial import TrialConfig
from mtlsearch.errors import MtlsearchError
from mtlsearch.records import derive_seed
from mtlsearch.search.experimental import used_on_purpose
from mtlsearch.search.history import Kept, history_of
from mtlsearch.search.tpe import IndexedTpe, Known
from mtlsearch.space import CategoryDomain, FloatDomain, IntDomain, Space

MAX_DRAWS = 1000
"""Configurations drawn for one trial before its constraints are called unsatisfiable."""

Admits = Callable[[TrialConfig], bool]


def build_sampler(config: SamplerConfig, space: Space, seed: int, admits: Admits) -> BaseSampler:
    """The sampler for this space; `admits` says whether a configuration may be proposed."""
    if isinstance(config, GridConfig):
        return GridSampler([point for point in space.grid() if admits(space.config(point))])
    return TreeSampler(config, space, seed, admits)


def distributions(space: Space) -> dict[str, BaseDistribution]:
    """Optuna's distribution of every parameter that any branch has."""
    return {name: _distribution(domain) for name, domain in space.dimensions.items()}


class Asked:
    """A chooser that asks an Optuna trial, and so stores every answer in the study."""

    def __init__(self, trial: optuna.Trial) -> None:
        self._trial = trial

    def category(self, name: str, options: tuple[Any, ...]) -> Any:
        """One of `options`."""
        return self._trial.suggest_categorical(name, options)

    def integer(self, name: str, low: int, high: int, *, log: bool, step: int) -> int:
        """An int in [low, high]."""
        return self._trial.suggest_int(name, low, high, log=log, step=step)

    def real(self, name: str, low: float, high: float, *, log: bool, step: float | None) -> float:
        """A float in [low, high]."""
        return self._trial.suggest_float(name, low, high, log=log, step=step)


class _Drawn:
    """A chooser that takes what is fixed, then what was sampled jointly, then samples alone."""

    def __init__(self, known: Mapping[str, Any], alone: Callable[[str], Any]) -> None:
        self._known, self._alone = known, alone
        self.params: dict[str, Any] = {}

    def _value(self, name: str) -> Any:
        value = self._known[name] if name in self._known else self._alone(name)
        self.params[name] = value
        return value

    def category(self, name: str, options: tuple[Any, ...]) -> Any:
        return self._value(name)

    def integer(self, name: str, low: int, high: int, *, log: bool, step: int) -> int:
        return int(self._value(name))

    def real(self, name: str, low: float, high: float, *, log: bool, step: float | None) -> float:
        return float(self._value(name))


class TreeSampler(BaseSampler):
    """Any of Optuna's samplers, over a tree with constraints, a function of the study and the seed alone."""

    def __init__(self, config: SamplerConfig, space: Space, seed: int, admits: Admits) -> None:
        self._config, self._tree, self._seed, self._admits = config, space, seed, admits
        self._space = distributions(space)
        self._known = Kept[Known]()

    def infer_relative_search_space(self, study: Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        """All parameters: which of them are active comes out of the draw."""
        return self._space

    def sample_relative(
        self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        """One whole configuration that the constraints admit."""
        for attempt in range(MAX_DRAWS):
            drawn = self._draw(study, trial, derive_seed(self._seed, trial.number, attempt))
            if self._admits(self._tree.suggest(drawn)):
                return drawn.params
        raise MtlsearchError(
            f"no configuration that satisfies the constraints was found in {MAX_DRAWS} draws. Widen the ranges or "
            "loosen the constraints."
        )

    def sample_independent(
        self, study: Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        """Never needed: `sample_relative` names every active parameter."""
        raise AssertionError(f"{param_name} was not part of the drawn configuration")

    def after_trial(self, study: Study, trial: FrozenTrial, state: TrialState, values: Sequence[float] | None) -> None:
        """Nothing: no sampler here keeps state outside of the study."""

    def _draw(self, study: Study, trial: FrozenTrial, seed: int) -> _Drawn:
        inner = self._inner(study, seed)
        if isinstance(inner, IndexedTpe) and inner.is_bounded:
            return self._draw_branch(inner, study, trial)
        joint = inner.infer_relative_search_space(study, trial)
        if isinstance(self._config, QmcConfig):
            joint = self._space  # the sequence covers the whole tree; inactive coordinates are not used
        known = inner.sample_relative(study, trial, joint) | trial.system_attrs.get("fixed_params", {})

        def alone(name: str) -> Any:
            return inner.sample_independent(study, trial, name, self._space[name])

        return _Drawn(known, alone)

    def _draw_branch(self, inner: IndexedTpe, study: Study, trial: FrozenTrial) -> _Drawn:
        """Only parameters of the branches that are taken, each when it is asked for."""
        known = dict(trial.system_attrs.get("fixed_params", {}))

        def alone(name: str) -> Any:
            known.update(inner.sample_group(study, trial, name) | known)
            return known[name] if name in known else inner.sample_independent(study, trial, name, self._space[name])

        return _Drawn(known, alone)

    def _inner(self, study: Study, seed: int) -> BaseSampler:
        with used_on_purpose():
            match self._config:
                case TpeConfig():
                    history = history_of(study)
                    known = None if history is None else self._known.over(history, Known)
                    return IndexedTpe(known, self._config.n_startup_trials, seed)
                case RandomConfig():
                    return optuna.samplers.RandomSampler(seed)
                case QmcConfig():  # one sequence for the whole search; the study counts the place in it
                    return optuna.samplers.QMCSampler(seed=self._seed, scramble=True, warn_independent_sampling=False)
                case CmaEsConfig():
                    return optuna.samplers.CmaEsSampler(
                        n_startup_trials=self._config.n_startup_trials,
                        warn_independent_sampling=False,
                        seed=seed,
                    )
                case GpConfig():
                    return optuna.samplers.GPSampler(n_startup_trials=self._config.n_startup_trials, seed=seed)
                case GridConfig():
                    raise AssertionError("a grid has its own sampler")
                case _:
                    assert_never(self._config)


class _Taken:
    """Trials that have been given a point."""

    def __init__(self) -> None:
        self.count = 0

    def changed(self, before: FrozenTrial | None, after: FrozenTrial) -> None:
        """Counts a trial when it gets one."""
        had = before is not None and "grid_point" in before.system_attrs
        self.count += "grid_point" in after.system_attrs and not had


class GridSampler(BaseSampler):
    """Each point of a tree's grid once. (Optuna's own takes the product over inactive branches too.)"""

    def __init__(self, points: Sequence[Mapping[str, Any]]) -> None:
        self._points = points
        self._taken = Kept[_Taken]()

    def __len__(self) -> int:
        return len(self._points)

    def before_trial(self, study: Study, trial: FrozenTrial) -> None:
        """Gives the trial the next point; enqueued trials have theirs."""
        if "grid_point" in trial.system_attrs or "fixed_params" in trial.system_attrs:
            return
        if (history := history_of(study)) is not None:
            taken = self._taken.over(history, _Taken).count
        else:
            taken = sum("grid_point" in other.system_attrs for other in study.get_trials(deepcopy=False))
        study._storage.set_trial_system_attr(trial._trial_id, "grid_point", taken)
        trial.system_attrs["grid_point"] = taken

    def infer_relative_search_space(self, study: Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        """None: a point is taken name by name."""
        return {}

    def sample_relative(
        self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        """None: a point is taken name by name."""
        return {}

    def sample_independent(
        self, study: Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        """The point's value; what an enqueued trial leaves open comes from the first point that has it."""
        if "grid_point" in trial.system_attrs:
            return self._points[trial.system_attrs["grid_point"]][param_name]
        return next(point[param_name] for point in self._points if param_name in point)


def _distribution(domain: IntDomain | FloatDomain | CategoryDomain) -> BaseDistribution:
    match domain:
        case IntDomain():
            return IntDistribution(domain.low, domain.high, log=domain.log, step=domain.step)
        case FloatDomain():
            return FloatDistribution(domain.low, domain.high, log=domain.log, step=domain.step)
        case CategoryDomain():
            return CategoricalDistribution(domain.options)
        case _:
            assert_never(domain)
