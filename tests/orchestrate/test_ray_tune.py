"""The search on Ray: with one slot the local engine's numbers, with ranks and faults nothing lost and nothing left."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import pytest
from conftest_orchestrate import facts, search, study

from mtlsearch.errors import ConfigError
from mtlsearch.orchestrate.trainable import Setting
from mtlsearch.records import Decision, EpochMetrics, TrialOrder
from mtlsearch.tracking import Tracker

pytestmark = [
    pytest.mark.ray,
    pytest.mark.slow,
    pytest.mark.usefixtures("ray_cluster"),
    pytest.mark.filterwarnings("default"),  # Ray's own warnings are not ours to mend
]
WriteSpace = Callable[..., Path]
ONE_SLOT = "resources.max_concurrent=1"


def processes(name: str) -> list[int]:
    """Pids of live Ray actors of that class, of this process's own cluster: other tests may have one of theirs."""
    found = []
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            is_one = (entry / "cmdline").read_text().startswith(f"ray::{name}") and _descends(int(entry.name))
        except OSError:
            continue  # it ended while we looked
        if is_one:
            found.append(int(entry.name))
    return found


def _descends(pid: int) -> bool:
    """Whether this process started it, or what started it."""
    while pid > 1:
        if pid == os.getpid():
            return True
        pid = int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
    return False


def free_cpus() -> float:
    """CPUs that no trial holds."""
    import ray

    return float(ray.available_resources().get("CPU", 0.0))


def wait_for(condition: Callable[[], bool], seconds: float) -> bool:
    """Whether it comes true in time."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if condition():
            return True
        time.sleep(0.05)
    return condition()


class Killer(Tracker):
    """Kills the processes of an actor class once, after the first epoch of a trial."""

    def __init__(self, actor: str, trial: int) -> None:
        self.actor, self.trial, self.killed = actor, trial, 0

    def epoch_finished(self, order: TrialOrder, metrics: EpochMetrics, decision: Decision) -> None:
        """The trial's process is between two epochs, or in the second."""
        if order.number == self.trial and not self.killed:
            for pid in processes(self.actor):
                os.kill(pid, signal.SIGKILL)
                self.killed += 1


@pytest.mark.parametrize(
    "pruner", ["none", "{kind: hyperband, reduction_factor: 2}", "{kind: wilcoxon, p_threshold: 0.4}"]
)
def test_one_slot_gives_the_local_engines_study(space_file: WriteSpace, tmp_path: Path, pruner: str) -> None:
    """What the other pruners decide is the search's too, whatever the engine: `test_local.py` has them all."""
    changes = [f"search.pruner={pruner}", "objective.metric=delta", "budget={trials: 8, epochs: 4}", ONE_SLOT]
    local = study(search(space_file(), tmp_path / "local", *changes))
    on_ray = study(search(space_file(), tmp_path / "ray", *changes, engine="ray"))
    assert facts(on_ray) == facts(local)


def test_two_slots_finish_every_trial_once(space_file: WriteSpace, tmp_path: Path) -> None:
    folder = search(space_file(), tmp_path / "out", "budget={trials: 12, epochs: 3}", engine="ray")
    trials = study(folder)
    assert [trial.number for trial in trials] == list(range(4 + 12))
    assert {trial.state.name for trial in trials} <= {"COMPLETE", "PRUNED"}
    for trial in trials:
        epochs = [each.epoch for each in folder.trial(trial.number).epochs()]
        assert epochs == list(range(1, len(epochs) + 1))


def test_two_slots_give_the_final_ranking_of_the_local_engine(space_file: WriteSpace, tmp_path: Path) -> None:
    """Of a search without a pruner: with two slots, what is pruned depends on who is first."""
    changes = ["final={top_k: 2, seeds: 2}", "search.pruner=none", "search.sampler=random"]
    ray, local = (search(space_file(), tmp_path / engine, *changes, engine=engine) for engine in ("ray", "local"))
    assert ray.final.read_text() == local.final.read_text()
    finals = [trial for trial in study(ray) if "final" in trial.user_attrs]
    assert [trial.state.name for trial in finals] == 12 * ["COMPLETE"]


class Watcher(Tracker):
    """Notes which trial of the search measured an epoch when, and the processes that then lived."""

    def __init__(self) -> None:
        self.trials: list[int] = []
        self.pids: set[int] = set()

    def epoch_finished(self, order: TrialOrder, metrics: EpochMetrics, decision: Decision) -> None:
        """One more epoch."""
        if order.role == "trial":
            self.trials.append(order.number)
            self.pids |= set(processes("Trial"))


def test_both_slots_work_side_by_side_in_processes_that_stay(space_file: WriteSpace, tmp_path: Path) -> None:
    """Also after the baselines, when Tune would have stopped the process that was idle first."""
    changes = ["space.batch_size=2", "budget={trials: 6, epochs: 3}", "search.pruner=none"]
    watcher = Watcher()
    search(space_file(), tmp_path / "out", *changes, engine="ray", trackers=[watcher])
    turns = [trial for trial, after in pairwise(watcher.trials) if trial != after]
    assert len(turns) > 6  # one after the other, six trials would take turns five times
    assert len(watcher.pids) == 2


def test_a_diverging_trial_fails_and_its_process_takes_the_next(space_file: WriteSpace, tmp_path: Path) -> None:
    path = space_file(
        space="{model: {kind: mmoe}, optimizer: {kind: sgd, lr: {choice: [0.001, 0.01, 10.0]}}, batch_size: 64}",
        search="{sampler: grid, pruner: none}",
        objective="mean",
    )
    trials = study(search(path, tmp_path / "out", ONE_SLOT, engine="ray"))
    assert sorted(trial.state.name for trial in trials) == ["COMPLETE", "COMPLETE", "FAIL"]
    assert all(trial.user_attrs["outcome"] for trial in trials)


def test_a_trial_whose_process_is_killed_goes_on_from_its_checkpoint(space_file: WriteSpace, tmp_path: Path) -> None:
    changes = ["objective.metric=mean", "budget={trials: 3, epochs: 4}", ONE_SLOT]
    killer = Killer("Trial", trial=1)
    disturbed = search(space_file(), tmp_path / "ray", *changes, engine="ray", trackers=[killer])
    assert killer.killed == 1
    undisturbed = search(space_file(), tmp_path / "local", *changes)
    assert facts(study(disturbed)) == facts(study(undisturbed))
    epochs = [each.epoch for each in disturbed.trial(1).epochs()]
    assert epochs == [1, 2, 3, 4]


def test_a_trial_that_is_lost_at_every_retry_fails_with_what_ray_says(space_file: WriteSpace, tmp_path: Path) -> None:
    changes = [
        "objective.metric=mean",
        "budget={trials: 2, epochs: 2}",
        "resources={max_retries: 0, max_concurrent: 1}",
    ]
    killer = Killer("Trial", trial=0)
    first, second = study(search(space_file(), tmp_path / "out", *changes, engine="ray", trackers=[killer]))
    assert killer.killed == 1
    assert first.state.name == "FAIL"
    assert "died" in first.user_attrs["outcome"]
    assert second.state.name == "COMPLETE"


class TestTwoRanks:
    """Each trial trains with DistributedDataParallel on two ranks."""

    CHANGES = ("resources.workers_per_trial=2", "objective.metric=mean", "budget={trials: 3, epochs: 3}")

    def test_they_give_one_ranks_scores(self, space_file: WriteSpace, tmp_path: Path) -> None:
        two = study(search(space_file(), tmp_path / "two", *self.CHANGES, engine="ray"))
        one = study(search(space_file(), tmp_path / "one", *self.CHANGES[1:]))
        for ours, theirs in zip(two, one, strict=True):
            assert ours.params == theirs.params
            assert ours.value == pytest.approx(theirs.value, abs=1e-3)

    def test_a_pruned_trial_frees_everything_within_five_seconds(self, space_file: WriteSpace, tmp_path: Path) -> None:
        changes = [*self.CHANGES, "search.pruner={kind: threshold, lower: 1000.0}"]
        trials = study(search(space_file(), tmp_path / "out", *changes, engine="ray"))
        assert {trial.state.name for trial in trials} == {"PRUNED"}
        assert {len(trial.intermediate_values) for trial in trials} == {1}
        assert wait_for(lambda: free_cpus() == 2.0, seconds=5)
        assert wait_for(lambda: not processes("OtherRank") and not processes("Trial"), seconds=5)

    def test_a_killed_rank_costs_nothing_but_time(self, space_file: WriteSpace, tmp_path: Path) -> None:
        killer = Killer("OtherRank", trial=1)
        disturbed = search(space_file(), tmp_path / "ray", *self.CHANGES, engine="ray", trackers=[killer])
        assert killer.killed == 1
        trials = study(disturbed)
        assert [trial.state.name for trial in trials] == ["COMPLETE"] * 3
        assert [each.epoch for each in disturbed.trial(1).epochs()] == [1, 2, 3]
        undisturbed = study(search(space_file(), tmp_path / "again", *self.CHANGES, engine="ray"))
        assert [trial.value for trial in trials] == [trial.value for trial in undisturbed]

    def test_a_diverging_trial_ends_on_both_ranks(self, space_file: WriteSpace, tmp_path: Path) -> None:
        path = space_file(
            space="{model: {kind: mmoe}, optimizer: {kind: sgd, lr: {choice: [0.001, 10.0]}}, batch_size: 64}",
            search="{sampler: grid, pruner: none}",
        )
        trials = study(search(path, tmp_path / "out", *self.CHANGES, engine="ray"))
        assert sorted(trial.state.name for trial in trials) == ["COMPLETE", "FAIL"]


def test_more_workers_than_the_cluster_has_is_refused(space_file: WriteSpace, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"one trial needs 64 CPUs .* the cluster has \d+"):
        search(space_file(), tmp_path / "out", "resources.workers_per_trial=64", engine="ray")


def test_a_table_with_columns_that_are_no_inputs(space_file: WriteSpace, tmp_path: Path) -> None:
    """What a config says by a default, it says to the trial's process too."""
    rows = [f"{i % 7},{'uvw'[i % 3]},{i},{i % 2}" for i in range(200)]
    (tmp_path / "table.csv").write_text("\n".join(["x,kind,id,y", *rows]))
    path = space_file(
        data=f"{{source: table, path: {tmp_path}/table.csv, tasks: [{{column: y, kind: binary}}], "
        "columns: {id: drop, kind: category}}",
        constraints="[]",
    )
    changes = ["objective.metric=mean", "budget={trials: 1, epochs: 1}", ONE_SLOT]
    (trial,) = study(search(path, tmp_path / "out", *changes, engine="ray"))
    assert trial.state.name == "COMPLETE"


def test_a_process_that_cannot_start_says_why(
    space_file: WriteSpace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ray itself says no more than that the actor died."""
    sent = Setting.json

    def broken(setting: Setting) -> str:
        fields = json.loads(sent(setting))
        return json.dumps(fields | {"data": fields["data"] | {"path": str(tmp_path / "gone")}})

    monkeypatch.setattr(Setting, "json", broken)
    changes = ["objective.metric=mean", "budget={trials: 1, epochs: 1}", "resources.max_retries=0", ONE_SLOT]
    (trial,) = study(search(space_file(), tmp_path / "out", *changes, engine="ray"))
    assert trial.state.name == "FAIL"
    outcome = trial.user_attrs["outcome"]
    assert outcome.startswith("mtlsearch.errors.ConfigError: ")
    assert str(tmp_path / "gone") in outcome
    assert "actor" not in outcome
