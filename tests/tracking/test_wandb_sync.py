"""`mtlsearch sync` and `mtlsearch leaderboard --wandb` on a search that was offline, against a server."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from wandb_files import current_files, finished, history
from wandb_server import KEY, OF_THIS_PROCESS, WandbServer

from mtlsearch.folder import ExperimentFolder
from mtlsearch.report.experiment import Facts, read_experiment_facts
from mtlsearch.tracking.wandb.values import epoch_values, settings

pytestmark = pytest.mark.slow

Mtlsearch = Callable[..., "subprocess.CompletedProcess[str]"]
SPACE = """
name: small
data: {{source: flights, path: {data}}}
space:
  model: {{choice: [{{kind: shared_bottom, hidden: {{choice: [4, 8]}}}}, {{kind: mmoe, hidden: 4}}]}}
  batch_size: 64
search: {{sampler: random, pruner: none, seed: 3}}
budget: {{trials: 2, epochs: 2}}
tracking: {{wandb: {{project: p}}}}
"""


def in_a_process(environment: dict[str, str], *arguments: object) -> subprocess.CompletedProcess[str]:
    """`mtlsearch …`, as W&B's client keeps in its process what it learnt of a server."""
    env = {name: value for name, value in os.environ.items() if name not in OF_THIS_PROCESS} | environment
    command = [sys.executable, "-m", "mtlsearch", *map(str, arguments)]
    return subprocess.run(command, env=env, text=True, capture_output=True, timeout=120)


@pytest.fixture(scope="module")
def searched(tmp_path_factory: pytest.TempPathFactory, small_flights: Path) -> Path:
    """The folder of a search that was offline."""
    folder = tmp_path_factory.mktemp("searched")
    (folder / "space.yaml").write_text(SPACE.format(data=small_flights))
    ended = in_a_process(
        {"WANDB_MODE": "offline"}, "run", folder / "space.yaml", "--out", folder / "out", "--engine", "local"
    )
    assert ended.returncode == 0, ended.stderr
    assert "(or: wandb sync" in ended.stderr
    return folder / "out"


@pytest.fixture
def experiment(searched: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(searched, tmp_path / "out", symlinks=True))


@pytest.fixture
def server() -> Iterator[WandbServer]:
    with WandbServer() as running:
        yield running


@pytest.fixture
def mtlsearch(server: WandbServer) -> Mtlsearch:
    """With a login at the server."""
    return lambda *arguments: in_a_process({"WANDB_BASE_URL": server.url, "WANDB_API_KEY": KEY}, *arguments)


def facts_of(folder: Path) -> Facts:
    return read_experiment_facts(ExperimentFolder(folder))


def check_whole(server: WandbServer, folder: Path) -> None:
    """Every value of every trial is there, once, and the leaderboard is the leaderboard."""
    facts = facts_of(folder)
    runs = {int(name.split("-")[1]): run for name, run in server.runs.items() if not name.endswith("leaderboard")}
    assert runs.keys() == facts.trials.keys()
    for number, trial in facts.trials.items():
        run = runs[number]
        assert run.plain == [epoch_values(epoch) for epoch in trial.epochs]
        assert run.rewritten == 0
        assert run.settings == settings(trial.parameters)
        group = f"small-{run.name.split('-')[0]}"
        assert (run.given("jobType"), run.given("groupName")) == (trial.record.role, group)
        ended = {"objective": trial.record.value, "state": trial.record.state, "reason": trial.record.reason}
        assert trial.shown is not None
        ended |= {f"{task}/{name}": x for task, scores in trial.shown.validation.items() for name, x in scores.items()}
        assert run.summary.items() >= ended.items()


def sent_bytes(server: WandbServer) -> int:
    """How much of runs the server was sent."""
    return server.operations["UpsertBucket"] + server.operations["CreateArtifact"]


def test_sync_sends_everything_once(experiment, server, mtlsearch):
    first = mtlsearch("sync", experiment)
    assert (first.returncode, first.stdout, first.stderr) == (0, "sent W&B 6 trials and the leaderboard\n", "")
    check_whole(server, experiment)
    assert not current_files(experiment)  # `wandb sync` has nothing left to send
    before = sent_bytes(server)
    second = mtlsearch("sync", experiment)
    assert (second.returncode, second.stdout) == (0, "W&B has everything of this experiment: nothing was sent\n")
    assert sent_bytes(server) == before
    (experiment / "wandb" / "sent.json").unlink()  # without our own note, the server is asked
    mtlsearch("sync", experiment)
    check_whole(server, experiment)


def test_the_leaderboard_run_has_table_pictures_model_and_folder(experiment, server, mtlsearch):
    assert mtlsearch("sync", experiment).returncode == 0
    facts = facts_of(experiment)
    (run,) = [run for name, run in server.runs.items() if name.endswith("leaderboard")]
    assert run.given("jobType") == "leaderboard"
    assert {name for name in run.plain[0] if name.startswith("pictures/")} >= {"pictures/history", "pictures/scatter"}
    kinds = {each["artifactTypeName"]: f"artifact{index}" for index, each in enumerate(server.artifacts, start=1)}
    table = json.loads(server.files[f"{kinds['run_table']}/leaderboard.table.json"])
    wanted = [tuple(row.values()) for row in facts.board.rows]
    assert [tuple(row[: len(facts.board.columns)]) for row in table["data"]] == wanted
    assert table["columns"][-2:] == ["delta", "num_parameters"]
    best = facts.ranked()[0]
    assert table["data"][0][-2] == pytest.approx(best.record.value)
    assert best.model is not None
    assert table["data"][0][-1] == best.model.num_parameters
    assert {"model.safetensors", "config.json", "README.md"} <= names(server, kinds["model"])
    folder = names(server, kinds["dataset"])
    assert {"plan.json", "space.yaml", "study.journal", "leaderboard.csv"} <= folder
    assert server.files[f"{kinds['dataset']}/leaderboard.csv"] == (experiment / "leaderboard.csv").read_bytes()
    checkpoints = {name.split("/")[1] for name in folder if "/checkpoint/" in name}
    assert checkpoints == {f"{best.number:05d}"}
    assert not [name for name in folder if name.startswith("wandb")]


def names(server: WandbServer, artifact: str) -> set[str]:
    """The files of an artifact."""
    return {name.removeprefix(f"{artifact}/") for name in server.files if name.startswith(f"{artifact}/")}


def test_a_server_that_refuses_is_an_error_and_the_rest_is_sent_later(experiment, server, mtlsearch):
    server.fail("refuse", only="file_stream")
    ended = mtlsearch("sync", experiment)
    assert ended.returncode == 1
    assert "W&B does not have all of 6 of 6 trials that were sent" in ended.stderr
    assert ended.stderr.endswith(f"Nothing is lost; try again later with: mtlsearch sync {experiment}\n")
    server.heal()
    assert mtlsearch("sync", experiment).returncode == 0
    check_whole(server, experiment)


def test_no_login_is_the_users_mistake(experiment, server):
    for command in (["sync", experiment], ["leaderboard", experiment, "--wandb"]):
        ended = in_a_process({"WANDB_BASE_URL": server.url}, *command)
        assert ended.returncode == 2
        assert "there is no login. Run `wandb login`, or set WANDB_API_KEY." in ended.stderr
        assert "Traceback" not in ended.stderr
    offline = {"WANDB_BASE_URL": server.url, "WANDB_API_KEY": KEY, "WANDB_MODE": "offline"}
    ended = in_a_process(offline, "leaderboard", experiment, "--wandb")
    assert (ended.returncode, "W&B is to be offline. Unset WANDB_MODE" in ended.stderr) == (2, True)


def test_the_workspace_is_saved_once_and_its_url_printed(experiment, server, mtlsearch):
    ended = [mtlsearch("leaderboard", experiment, "--wandb") for _ in range(2)]
    assert [each.returncode for each in ended] == [0, 0], ended[0].stderr
    assert ended[0].stdout == ended[1].stdout
    assert ended[0].stdout.startswith(f"{server.url}/me/p?nw=")
    assert [view.get("id") for view in server.views] == [None, "v"]
    spec = json.loads(server.views[0]["spec"])["section"]
    panels = [panel for section in spec["panelBankConfig"]["sections"] for panel in section["panels"]]
    kinds = [panel["viewType"] for panel in panels]
    assert kinds[:2] == ["Parallel Coordinates Plot", "Parameter Importance"]
    assert kinds.count("Scatter Plot") == 7  # four tasks against the objective, three pairs of them
    assert kinds[-1] == "Run Comparer"
    axes = [column["accessor"] for column in panels[0]["config"]["columns"]]
    assert {"config:model/kind.value", "summary:arr_delay/rmse", "summary:objective"} <= set(axes)
    (runs,) = spec["runSets"]
    assert runs["sort"] == {"keys": [{"key": {"section": "summary", "name": "objective"}, "ascending": False}]}


def test_the_api_key_is_in_no_file_output_or_process_list(experiment, server, small_flights, tmp_path):
    """Watched while a search runs with a login: what it writes, says, and the command lines of its processes."""
    env = {name: value for name, value in os.environ.items() if name not in OF_THIS_PROCESS}
    env |= {"WANDB_BASE_URL": server.url, "WANDB_API_KEY": KEY}
    (tmp_path / "space.yaml").write_text(SPACE.format(data=small_flights))
    command = [sys.executable, "-m", "mtlsearch", "run", "space.yaml", "--out", "new", "--engine", "local"]
    pipes = {"stdout": (tmp_path / "out.txt").open("w"), "stderr": (tmp_path / "err.txt").open("w")}
    process = subprocess.Popen(command, env=env, cwd=tmp_path, **pipes)
    lines: set[bytes] = set()
    while process.poll() is None:
        lines |= command_lines()
        time.sleep(0.02)
    for pipe in pipes.values():
        pipe.close()
    assert process.returncode == 0
    assert any(b"wandb-core" in line for line in lines)
    assert server.keys == {KEY}  # it was used
    assert not [line for line in lines if KEY.encode() in line]
    assert not [path for path in tmp_path.rglob("*") if path.is_file() and KEY.encode() in path.read_bytes()]


def command_lines() -> set[bytes]:
    """Of all processes of this machine that may be read."""
    found = set()
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            found.add(path.read_bytes())
        except OSError:  # it has ended
            continue
    return found


def test_a_resumed_search_mirrors_trials_that_a_killed_driver_left(experiment, server, mtlsearch):
    ended = mtlsearch("resume", experiment, "--engine", "local")
    assert (ended.returncode, ended.stderr) == (0, "")
    check_whole(server, experiment)
    assert [run.exit_codes for run in server.runs.values()] == [[0]] * len(server.runs)


def test_a_search_resumed_offline_writes_files_that_a_killed_driver_left_unfinished(experiment):
    lost, cut, *rest = sorted(experiment.glob("wandb/offline-run-*/run-*-0*.wandb"), key=lambda path: path.name)
    shutil.rmtree(lost.parent)
    cut.write_bytes(cut.read_bytes()[:-200])
    cut.with_name(f"{cut.name}.whole").unlink()
    ended = in_a_process({"WANDB_MODE": "offline"}, "resume", experiment, "--engine", "local")
    assert ended.returncode == 0
    assert "(or: wandb sync" in ended.stderr
    files = [path for path in current_files(experiment) if "leaderboard" not in path.name]
    assert [path.name for path in files] == [path.name for path in (lost, cut, *rest)]
    assert set(rest) <= set(files)  # these were whole
    for path, trial in zip(files, facts_of(experiment).trials.values(), strict=True):
        lines = history(finished(path))
        assert [{name: line[name] for name in line if name != "_step"} for line in lines] == [
            epoch_values(epoch) for epoch in trial.epochs
        ]


def test_a_failing_server_changes_no_result(experiment, server, small_flights, tmp_path):
    server.fail("hang")
    (tmp_path / "space.yaml").write_text(SPACE.format(data=small_flights))
    disturbed = tmp_path / "disturbed"
    login = {"WANDB_BASE_URL": server.url, "WANDB_API_KEY": KEY}
    ended = in_a_process(login, "run", tmp_path / "space.yaml", "--out", disturbed, "--engine", "local")
    assert ended.returncode == 0, ended.stderr
    assert all(line.startswith("mtlsearch: W&B ") for line in ended.stderr.splitlines())
    assert "no leaderboard" not in ended.stderr  # it was written offline at once
    assert [path for path in current_files(disturbed) if path.name.endswith("-leaderboard.wandb")]
    timed = {"seconds", "samples_per_second"}
    for number, trial in facts_of(experiment).trials.items():
        other = facts_of(disturbed).trials[number]
        assert [epoch.model_dump(exclude=timed) for epoch in other.epochs] == [
            epoch.model_dump(exclude=timed) for epoch in trial.epochs
        ]
        assert other.record.value == trial.record.value
    server.heal()
    assert in_a_process(login, "sync", disturbed).returncode == 0
    check_whole(server, disturbed)
