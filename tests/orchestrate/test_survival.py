"""What goes wrong on one machine, and that it costs a search nothing but time."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from conftest_orchestrate import facts, search, study
from test_ray_tune import ONE_SLOT, processes, wait_for

from mtlsearch.errors import Interrupted, MtlsearchError
from mtlsearch.folder import ExperimentFolder
from mtlsearch.records import Decision, EpochMetrics, TrialOrder
from mtlsearch.report.standing import Standing, read_standing
from mtlsearch.tracking import Tracker

pytestmark = [
    pytest.mark.ray,
    pytest.mark.slow,
    pytest.mark.usefixtures("ray_cluster"),
    pytest.mark.filterwarnings("default"),  # Ray's own warnings are not ours to mend
]
WriteSpace = Callable[..., Path]
CHANGES = ("objective.metric=mean", "budget={trials: 2, epochs: 3}", ONE_SLOT)


class After(Tracker):
    """Does something once, after a trial's epoch; keeps why trials were taken up again."""

    def __init__(self, do: Callable[[], None], trial: int = 0, epoch: int = 1) -> None:
        self._do, self._when = do, (trial, epoch)
        self.reasons: list[str] = []

    def epoch_finished(self, order: TrialOrder, metrics: EpochMetrics, decision: Decision) -> None:
        """That one?"""
        if (order.number, metrics.epoch) == self._when:
            self._do()

    def trial_restarted(self, order: TrialOrder, reason: str) -> None:
        """Keeps why."""
        self.reasons.append(reason)


@pytest.fixture
def slow_space(space_file: WriteSpace) -> Path:
    """Steps small enough that an epoch takes a while."""
    return space_file(space="{model: {kind: shared_bottom, hidden: {choice: [4, 8]}}, batch_size: 2}")


def test_a_process_that_is_stopped_is_ended_and_its_trial_goes_on(slow_space: Path, tmp_path: Path) -> None:
    def stop() -> None:
        for pid in processes("Trial"):
            os.kill(pid, signal.SIGSTOP)

    watcher = After(stop)
    changes = (*CHANGES[:2], "resources={max_concurrent: 1, timeout: 4}")
    disturbed = search(slow_space, tmp_path / "ray", *changes, engine="ray", trackers=[watcher])
    (reason,) = watcher.reasons
    assert "rank 0" in reason
    assert "was silent for" in reason
    assert facts(study(disturbed)) == facts(study(search(slow_space, tmp_path / "local", *CHANGES)))


def test_a_hub_that_was_killed_comes_back_and_what_is_silent_is_noticed(slow_space: Path, tmp_path: Path) -> None:
    """Also what was stopped before the new hub could hear of it."""
    status, hubs = tmp_path / "ray" / "status.json", set[int]()

    def stop_and_kill() -> None:
        hubs.update(processes("Hub"))
        assert wait_for(lambda: status.exists() and json.loads(status.read_text())["ranks"], seconds=60)
        for pid in (*processes("Trial"), *hubs):
            os.kill(pid, signal.SIGSTOP)
        for pid in hubs:
            os.kill(pid, signal.SIGKILL)

    def look() -> None:
        assert wait_for(lambda: processes("Hub") and not hubs & {*processes("Hub")}, seconds=60)

    first, second = After(stop_and_kill), After(look, trial=1)
    changes = (*CHANGES[:2], "resources={max_concurrent: 1, timeout: 4}")
    disturbed = search(slow_space, tmp_path / "ray", *changes, engine="ray", trackers=[first, second])
    (reason,) = first.reasons
    assert "was silent for" in reason
    assert facts(study(disturbed)) == facts(study(search(slow_space, tmp_path / "local", *CHANGES)))


def test_a_rank_that_is_stopped_is_noticed_by_the_other(slow_space: Path, tmp_path: Path) -> None:
    def stop() -> None:
        for pid in processes("OtherRank"):
            os.kill(pid, signal.SIGSTOP)

    watcher = After(stop)
    changes = (*CHANGES[:2], "resources={workers_per_trial: 2, timeout: 4}")
    disturbed = search(slow_space, tmp_path / "ray", *changes, engine="ray", trackers=[watcher])
    assert len(watcher.reasons) == 1
    assert [trial.state.name for trial in study(disturbed)] == ["COMPLETE"] * 2
    assert [each.epoch for each in disturbed.trial(0).epochs()] == [1, 2, 3]
    assert wait_for(lambda: not processes("OtherRank"), seconds=10)


def test_a_trial_that_is_too_large_fails_alone_after_a_try_with_half_the_batch(
    space_file: WriteSpace, tmp_path: Path
) -> None:
    """Its experts' outputs are one allocation of 69 GB, and of 34 GB for half the rows: Linux refuses both at once."""
    if os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") > 30 * 2**30:
        pytest.skip("this machine has memory for it")
    large = "{kind: mmoe, num_experts: 256, hidden: 4096}"
    path = space_file(
        data="{source: synthetic_mmoe, rows: 20000}",
        space=f"{{model: {{choice: [{large}, {{kind: shared_bottom, hidden: 4}}]}}, optimizer: {{lr: 0.001}}, "
        "batch_size: 16384}",
        search="{sampler: grid, pruner: none}",
    )
    watcher = After(lambda: None)
    found = search(path, tmp_path / "out", *CHANGES, engine="ray", trackers=[watcher])
    states = {trial.params["model"]: trial for trial in study(found)}
    assert {trial.state.name for trial in states.values()} == {"FAIL", "COMPLETE"}
    (failed,) = (trial for trial in states.values() if trial.state.name == "FAIL")
    assert failed.user_attrs["outcome"].startswith("out of memory, also with half the batch at a time:")
    (reason,) = watcher.reasons
    assert reason.startswith("out of memory; now half the batch at a time")


def test_a_full_disk_ends_the_search_and_nothing_is_lost(slow_space: Path, tmp_path: Path, small_disk: Path) -> None:
    """Whoever meets it first: the trial with a checkpoint, or the driver with a line."""
    subprocess.run(["mount", "-o", "remount,size=2m", str(small_disk)], check=True)
    blocker = small_disk / "blocker"

    def fill() -> None:
        with blocker.open("wb") as file:
            try:
                while True:
                    file.write(b"x" * 65536)
                    file.flush()
            except OSError:
                return

    out = small_disk / "out"
    with pytest.raises((MtlsearchError, OSError), match="No space left on device"):
        search(slow_space, out, *CHANGES, engine="ray", trackers=[After(fill, trial=1)])
    blocker.unlink()
    resume(out)
    undisturbed = search(slow_space, tmp_path / "local", *CHANGES)
    assert facts(study(ExperimentFolder(out))) == facts(study(undisturbed))
    assert lines(out) == [[1, 2, 3]] * 2


def test_a_node_that_is_about_to_go_is_left_with_a_checkpoint(slow_space: Path, tmp_path: Path) -> None:
    """Ray's notice, of a spot machine for example; and it is no failure: there is no retry here.

    The only node here is the one that goes, so the search is stopped once it has left.
    """
    found: list[int] = []

    def wish() -> None:
        """What the lookout says of a draining node; Ray refuses to drain its head."""
        import ray

        names = [each["name"] for each in ray.util.list_named_actors(all_namespaces=True)]
        (hub,) = (ray.get_actor(name, "mtlsearch") for name in names if name.startswith("hub-"))
        node = ray.get_runtime_context().get_node_id()
        found.extend(processes("Trial"))
        end = time.monotonic() + 20
        while processes("Trial") == found and time.monotonic() < end:  # the lookout takes it back every other second
            ray.get(hub.wish.remote({node: "its node is about to go"}, None))
            time.sleep(0.05)

    watcher = After(lambda: threading.Thread(target=wish, daemon=True).start())
    changes = (*CHANGES[:2], "resources={max_concurrent: 1, max_retries: 0}")
    disturbed = search(slow_space, tmp_path / "ray", *changes, engine="ray", trackers=[watcher])
    assert all("its node is about to go, at step" in reason for reason in watcher.reasons)
    assert watcher.reasons
    assert facts(study(disturbed)) == facts(study(search(slow_space, tmp_path / "local", *CHANGES)))


def test_a_stopped_search_goes_on_where_it_was(slow_space: Path, tmp_path: Path) -> None:
    """Trials leave with a checkpoint in the middle of an epoch."""
    out = tmp_path / "ray"
    seen: list[Standing] = []

    def stop() -> None:
        folder = ExperimentFolder(out)
        assert wait_for(lambda: bool(read_standing(folder).ranks), seconds=20)
        seen.append(read_standing(folder))
        folder.stop.touch()

    watcher = After(lambda: threading.Thread(target=stop, daemon=True).start())
    changes = ("objective.metric=mean", "budget={trials: 1, epochs: 40}", ONE_SLOT)
    with pytest.raises(Interrupted, match=f"stopped. Go on with: mtlsearch resume {out}"):
        search(slow_space, out, *changes, engine="ray", trackers=[watcher])
    (standing,) = seen
    assert standing.driver == str(os.getpid())
    assert [rank["trial"] for rank in standing.ranks] == [0]
    assert standing.ranks[0]["memory"] > 2**27
    assert [node["cpus"] for node in standing.nodes] == [2.0]
    assert not ExperimentFolder(out).status.exists()
    checkpoints = sorted(path.name for path in (out / "trials" / "00000" / "checkpoint").iterdir())
    assert not checkpoints[-1].endswith("-00000000.pt"), "of the middle of an epoch"
    resume(out)
    undisturbed = search(slow_space, tmp_path / "local", *changes)
    assert facts(study(ExperimentFolder(out))) == facts(study(undisturbed))
    assert lines(out) == [list(range(1, 41))]


@pytest.mark.parametrize(("trials", "ranks"), [(2, 1), (1, 2)])
def test_a_trial_takes_the_workers_that_nobody_else_wants(
    slow_space: Path, tmp_path: Path, trials: int, ranks: int
) -> None:
    """Of two CPUs; its values do not depend on it."""
    changes = ("objective.metric=mean", f"budget={{trials: {trials}, epochs: 2}}")
    others: list[int] = []
    watcher = After(lambda: others.append(len(processes("OtherRank"))))
    elastic = (*changes, "resources.workers_per_trial=[1, 2]")
    found = study(search(slow_space, tmp_path / "ray", *elastic, engine="ray", trackers=[watcher]))
    assert others == [ranks - 1]
    for ours, theirs in zip(found, study(search(slow_space, tmp_path / "local", *changes)), strict=True):
        assert ours.params == theirs.params
        assert ours.value == pytest.approx(theirs.value, abs=1e-3)


def test_only_loopback_hears_a_search_of_this_machine() -> None:
    """Ray's ports; a stranger on the network could run code through them."""
    import ray

    assert [node["NodeManagerAddress"] for node in ray.nodes()] == ["127.0.0.1"]
    session = ray._private.worker.global_worker.node
    pids = {info.process.pid for infos in session.all_processes.values() for info in infos}
    assert pids
    heard = {address for address, pid in listening() if pid in pids}
    assert heard
    assert heard <= {"127.0.0.1", "::1", "::ffff:127.0.0.1"}, heard


def listening() -> Iterator[tuple[str, int]]:
    """Address and pid of every TCP socket that listens."""
    import psutil

    for each in psutil.net_connections("tcp"):
        if each.status == psutil.CONN_LISTEN and each.pid is not None:
            yield each.laddr.ip, each.pid


def resume(out: Path) -> None:
    """Goes on with a search, on the test session's cluster."""
    from rich.console import Console

    from mtlsearch.orchestrate.drive import Driver

    Driver(Console(quiet=True)).resume(ExperimentFolder.open(out))


def lines(out: Path) -> list[list[int]]:
    """Epochs in each trial's metrics.jsonl."""
    logs = sorted(out.glob("trials/*/metrics.jsonl"))
    return [[json.loads(line)["epoch"] for line in log.read_text().splitlines()] for log in logs]
