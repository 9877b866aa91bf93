"""The search on Ray: Tune places trials on machines, our study decides what they are and when they end.

Ray's own `OptunaSearch` fixes Optuna's pruner and tells a trial that a scheduler stopped to the study as complete;
so a `Searcher` and a `TrialScheduler` of a few lines stand here, both over one `Bridge`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import ray
from ray import tune
from ray.tune.schedulers import FIFOScheduler, TrialScheduler
from ray.tune.search import Searcher

from mtlsearch.errors import Interrupted, MtlsearchError
from mtlsearch.orchestrate.bridge import Bridge
from mtlsearch.orchestrate.faults import fault_of
from mtlsearch.orchestrate.hub import start_hub
from mtlsearch.orchestrate.keeper import start_keeper
from mtlsearch.orchestrate.lookout import Lookout
from mtlsearch.orchestrate.machines import MOST_ACTORS, room_for_workers
from mtlsearch.orchestrate.scratch import scratch
from mtlsearch.orchestrate.session import Session
from mtlsearch.orchestrate.trainable import REPORT, Setting, Trial
from mtlsearch.records import EpochReport


def search_on_ray(session: Session, address: str | None) -> None:
    """Runs the search on the cluster that is connected, then scores the test split for the best.

    Args:
        address: the cluster's, when it may have other hosts than this one.
    Raises:
        MtlsearchError: the search cannot go on, or a test score could not be had.
    """
    folder, token = session.folder.path.resolve(), session.token
    setting = Setting(
        session.experiment.data,
        session.experiment.resources,
        folder,
        token=token,
        keeper=f"keeper-{token}",
        hub=f"hub-{token}",
        driver_place=str(Path.cwd()),
        storage=session.folder.uri,
    )
    resources = session.experiment.resources
    bridge = Bridge(session, setting.json(), lambda: room_for_workers(resources))
    actors = [hub := start_hub(setting.hub)]
    if address is not None:  # there may be hosts that do not see the folder
        actors.append(start_keeper(folder, setting.keeper))
    with scratch() as place, Lookout(hub, session.folder, bridge, resources.timeout):
        tune.Tuner(
            Trial,
            tune_config=tune.TuneConfig(
                search_alg=StudySearcher(bridge),
                scheduler=StudyScheduler(bridge),
                num_samples=-1,
                reuse_actors=True,
            ),
            run_config=tune.RunConfig(
                name="search",
                storage_path=place,
                verbose=0,
                callbacks=[],
                stop=_AtEnd(bridge),
                failure_config=tune.FailureConfig(max_failures=0),  # whether to try again is the bridge's to say
                checkpoint_config=tune.CheckpointConfig(checkpoint_at_end=False),
            ),
        ).fit()
    for actor in actors:
        ray.kill(actor)
    if bridge.error is not None:
        raise bridge.error
    if session.folder.stop.exists():
        raise Interrupted(session.interruption)


class StudySearcher(Searcher):  # type: ignore[misc]  # Ray has no types
    """Hands the bridge's orders to Tune."""

    def __init__(self, bridge: Bridge) -> None:
        super().__init__()
        self._bridge = bridge

    def suggest(self, trial_id: str) -> dict[str, Any] | str | None:
        """The next trial, None to be asked again later, FINISHED at the end."""
        try:
            if (config := self._bridge.next(trial_id)) is not None:
                return config
        except (MtlsearchError, OSError) as error:  # Tune would make a TuneError of it
            self._bridge.error = error
        return str(Searcher.FINISHED) if self._bridge.finished else None

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        """Takes test scores, and what did not come to its end."""
        try:
            self._bridge.ended(trial_id, result or {})
        except (MtlsearchError, OSError) as failed:
            self._bridge.error = failed

    def save(self, checkpoint_path: str) -> None:
        """Nothing: the study is on disk."""

    def restore(self, checkpoint_path: str) -> None:
        """Nothing: a resume starts a new Tuner over the study."""


class StudyScheduler(FIFOScheduler):  # type: ignore[misc]  # Ray has no types
    """Passes every epoch to the session, and its decision to Tune."""

    def __init__(self, bridge: Bridge) -> None:
        super().__init__()
        self._bridge = bridge
        self._is_to_keep_actors = not bridge.has_sizes  # of one size: else others' machines would be kept from them

    def on_trial_add(self, controller: Any, trial: Any) -> None:
        """Has Tune keep idle actors. It would stop them while baselines are waited for, and start them anew after."""
        if self._is_to_keep_actors:
            controller._actor_cache.increase_max(trial.placement_group_factory, by=MOST_ACTORS)
            self._is_to_keep_actors = False  # Tune was told

    def on_trial_error(self, controller: Any, trial: Any) -> None:
        """Notes why Tune's trial failed."""
        pickled = trial.pickled_error_file  # written by this process a moment ago, into Ray's own folder
        error = ray.cloudpickle.loads(Path(pickled).read_bytes()) if pickled is not None else None
        _, _, text = Path(trial.error_file).read_text().rpartition("Failure # ")
        self._bridge.note(trial.trial_id, fault_of(error, text.partition("\n")[2]))

    def on_trial_result(self, controller: Any, trial: Any, result: dict[str, Any]) -> str:
        """STOP when the study has ended the trial."""
        goes_on = self._bridge.report(trial.trial_id, EpochReport.model_validate_json(result[REPORT]))
        return str(TrialScheduler.CONTINUE if goes_on else TrialScheduler.STOP)


class _AtEnd(tune.Stopper):  # type: ignore[misc]  # Ray has no types
    """Ends everything when the search cannot go on; what ran stays as it is, for a resume."""

    def __init__(self, bridge: Bridge) -> None:
        self._bridge = bridge

    def __call__(self, trial_id: str, result: dict[str, Any]) -> bool:
        """Single trials are the scheduler's."""
        return False

    def stop_all(self) -> bool:
        """Whether to end now."""
        return self._bridge.ends_now
