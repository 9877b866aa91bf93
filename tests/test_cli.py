"""The commands, as a user types them: exit codes, what they print, what they leave alone when the input is wrong."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import jsonschema
import pytest

from mtlsearch.folder import ExperimentFolder

ENTRY = str(Path(sys.executable).with_name("mtlsearch"))
COMMANDS = ("run", "resume", "check", "leaderboard", "schema", "data")


@pytest.fixture
def refused(mtlsearch, tmp_path) -> Callable[..., str]:
    """`refused("run", file)` → the one message of a command that exits with 2 and writes nothing."""

    def call(*arguments: object) -> str:
        before = _tree(tmp_path)
        ended = mtlsearch(*arguments)
        assert ended.code == 2, ended
        assert ended.out == ""
        assert ended.err.startswith("mtlsearch: ")
        assert ended.err.count("\n") == 1, ended.err
        assert _tree(tmp_path) == before
        return ended.err.removeprefix("mtlsearch: ").replace(f"{tmp_path}/", "").rstrip("\n")

    return call


def _tree(folder: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() if path.is_file() else b"" for path in folder.rglob("*")}


# Help ------------------------------------------------------------------------------------------------------------


def test_help_names_every_command_and_loads_no_framework():
    program = (
        "import sys, mtlsearch.cli\n"
        "sys.argv[1:] = ['--help']\n"
        "try: mtlsearch.cli.main()\n"
        "finally: print(sorted({'torch', 'ray', 'optuna', 'wandb', 'pyarrow'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 0
    *help_lines, loaded = done.stdout.splitlines()
    assert loaded == "[]"
    assert [line.split()[0] for line in help_lines if line.startswith("  ") and line.split()[0] in COMMANDS] == [
        *COMMANDS
    ]


@pytest.mark.slow
@pytest.mark.parametrize(
    "command",
    ["run", "resume", "check", "leaderboard", "export", "predict", "schema", "data list", "data describe"],
)
def test_every_command_has_help(mtlsearch, command):
    ended = mtlsearch(*command.split(), "--help")
    assert ended.code == 0
    assert f"Usage: mtlsearch {command}" in ended.out


def test_a_bad_file_is_answered_before_a_framework_is_loaded(tmp_path):
    (tmp_path / "bad.yaml").write_text("data: {source: flights}\nspace: {model: mmo}\n")
    program = (
        "import sys, mtlsearch.cli\n"
        "sys.argv[1:] = ['check', 'bad.yaml']\n"
        "try: mtlsearch.cli.main()\n"
        "finally: print(sorted({'torch', 'ray', 'optuna', 'wandb', 'pyarrow'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stdout == "[]\n"
    assert done.stderr.startswith("mtlsearch: bad.yaml:2:16: unknown kind of `model`: 'mmo'")


# Wrong input -----------------------------------------------------------------------------------------------------

WRONG_FILES = {
    "an unknown key": ({"budget": "{trials: 4, epoch: 2}"}, ":5:21: unknown key 'epoch'; allowed: "),
    "a wrong type": ({"budget": "{trials: four}"}, ":5:18: `trials` must be a whole number, found 'four'"),
    "an empty choice": ({"space": "{model: {choice: []}}"}, ":3:25: `choice` must be a list of at least one item"),
    "a range upside down": (
        {"space": "{model: {kind: mmoe, num_experts: {int: [16, 2]}}}"},
        ":3:48: `int` must go from low to high, found [16, 2]. Write [2, 16].",
    ),
    "a log range from 0": (
        {"space": "{model: mmoe, optimizer: {lr: {float: [0, 1], log: true}}}"},
        ":3:46: a log range must start above 0, found [0, 1]",
    ),
    "an unknown model": ({"space": "{model: {kind: mmoeexx}}"}, ":3:23: unknown kind of `model`: 'mmoeexx'"),
    "an unknown source": ({"data": "{source: flight}"}, ":2:8: unknown source of `data`: 'flight'"),
    "a task that does not exist": ({"data": "{source: flights, tasks: [late]}"}, "flights has no task 'late'; it has "),
    "an unknown metric": (
        {"objective": "{metric: gain}"},
        ":6:13: objective.metric must be delta, mean or task/metric, found 'gain'. Here: cancelled/auroc, ",
    ),
    "a metric of no task": (
        {"objective": "late/auroc"},
        ":6:1: objective.metric names the task 'late', which is not learned. Write one of: cancelled/auroc, ",
    ),
    "a metric that does not fit": (
        {"objective": "arr_delay/auroc"},
        ":6:1: objective.metric 'arr_delay/auroc' does not fit: arr_delay is a regression task. "
        "Write one of: arr_delay/rmse, arr_delay/mae, arr_delay/r2.",
    ),
    "a space without any configuration": (
        {"constraints": "['batch_size < 1']"},
        "can run: the constraint `batch_size < 1` is violated",
    ),
    "more workers than CPUs": ({"resources": "{workers_per_trial: 9999}"}, ":6:13: one trial needs 9999 CPUs"),
    "YAML that does not parse": ({"budget": "{trials: 4"}, ": not YAML: "),
    "YAML with a tag": ({"space": "!!python/object:os.system {}"}, ":3:8: "),
}


@pytest.mark.slow
@pytest.mark.parametrize("case", WRONG_FILES)
@pytest.mark.parametrize("command", ["run", "check"])
def test_a_wrong_file(refused, space_file, command, case):
    sections, message = WRONG_FILES[case]
    said = refused(command, space_file(**sections))
    assert said.startswith("small.yaml:")
    assert message in said


@pytest.mark.slow
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--set", "search.seed"), "--set search.seed: must be key=value with a dotted key"),
        (("--set", "search.sed=3"), "--set search.sed=3: unknown key 'sed'; allowed: "),
        (("--set", "search.seed=[1"), "--set search.seed=[1: not YAML: "),
        (("--trials", "0"), "--set budget.trials=0: `trials` must be at least 1, found 0"),
        (("--set", "data={source: census, path: nowhere}"), "nowhere: data.path must be a folder with census-income."),
        (("--set", "data.path=nowhere"), "nowhere: data.path must be a folder with flights.csv and weather.csv"),
        (("--out", "../small.yaml"), "--out must be a new folder, but ../small.yaml exists. Choose another."),
        (("--out", "."), "--out must be a new folder, but . exists. Choose another."),
        (("--out", "../small.yaml/out"), "--out ../small.yaml/out cannot be made: "),
        (("--out", "/proc/out"), "--out /proc/out cannot be made: "),
        (("--out", "x" * 300), "cannot be made: File name too long. Choose a folder that you may write to."),
    ],
)
def test_wrong_arguments_of_run(refused, space_file, arguments, message):
    assert message in refused("run", space_file(), "--engine", "local", *arguments)


@pytest.mark.parametrize(
    "arguments",
    [
        ("run",),
        ("run", "x.yaml", "--engine", "spark"),
        ("run", "x.yaml", "--trials", "many"),
        ("leaderboard", "x", "--format", "xml"),
        ("search",),
        ("data", "show"),
    ],
)
def test_what_is_no_command_at_all(mtlsearch, arguments):
    ended = mtlsearch(*arguments)
    assert ended.code == 2
    assert ended.err.startswith("Usage: mtlsearch")
    assert "Error: " in ended.err


def test_a_missing_file(refused, space_file):
    space_file()
    assert refused("run", "../smal.yaml") == "../smal.yaml: no such file. Did you mean `small.yaml`?"


def test_a_folder_in_place_of_a_file(refused, space_file):
    space_file()
    assert refused("check", "..") == "..: is a folder; name the space file in it: small.yaml"


def test_a_folder_with_something_in_it(refused, space_file, tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.tex").write_text("…")
    said = refused("run", space_file(), "--engine", "local", "--out", tmp_path / "mine")
    assert said == "--out must be a new folder, but mine exists. Choose another."


@pytest.mark.parametrize("command", ["resume", "leaderboard"])
def test_a_folder_that_is_no_experiment(refused, tmp_path, command):
    (tmp_path / "mine").mkdir()
    give = "Give the folder that `mtlsearch run --out` wrote."
    assert refused(command, "nowhere") == f"nowhere is no experiment: it is not a folder. {give}"
    assert refused(command, "../mine") == f"../mine is no experiment: it has no space.yaml and no plan.json. {give}"


@pytest.mark.slow
@pytest.mark.parametrize("plan", ["", "{", "[]", "3", '{"overrides": 3}', '{"overrides": [3]}', "\xff"])
def test_a_damaged_plan(refused, space_file, tmp_path, plan):
    ExperimentFolder.create(tmp_path / "out", space_file().read_text(), {}, "{}")
    (tmp_path / "out" / "plan.json").write_text(plan, encoding="latin-1")
    said = refused("resume", tmp_path / "out", "--engine", "local")
    assert said.startswith("out/plan.json: the file must be the ")
    assert said.endswith(", but is damaged. Restore it from a copy.")


@pytest.mark.parametrize("command", ["resume", "leaderboard"])
def test_a_damaged_journal(mtlsearch, space_file, tmp_path, command):
    assert mtlsearch("run", space_file(), "--engine", "local", "--trials", 1, "--out", tmp_path / "out").code == 0
    journal = tmp_path / "out" / "study.journal"
    lines = journal.read_text().splitlines()
    journal.write_text("\n".join([*lines[:3], "\0\0\0", *lines[4:], ""]))
    ended = mtlsearch(command, tmp_path / "out", *(("--engine", "local") if command == "resume" else ()))
    assert ended.code == 2
    assert ended.err.startswith(f"mtlsearch: {journal}:4: every line must be JSON")
    assert ended.err.count("\n") == 1


@pytest.mark.slow
@pytest.mark.parametrize("command", ["resume", "leaderboard"])
@pytest.mark.parametrize("file", ["metrics.jsonl", "order.json", "test.json"])
def test_a_trial_whose_files_are_damaged(mtlsearch, space_file, tmp_path, file, command):
    assert mtlsearch("run", space_file(), "--engine", "local", "--trials", 1, "--out", tmp_path / "out").code == 0
    damaged = tmp_path / "out" / "trials" / "00004" / file
    damaged.write_text('{"epoch": 1}\n')
    ended = mtlsearch(command, tmp_path / "out", *(("--engine", "local") if command == "resume" else ()))
    assert ended.code == 2
    assert ended.err.startswith(f"mtlsearch: {damaged}:")
    assert ended.err.endswith(", but is damaged. Restore it from a copy.\n")


def test_no_traceback_from_the_console_script(tmp_path):
    (tmp_path / "bad.yaml").write_text("data: {source: flights}\nspace: {model: [}\n")
    done = subprocess.run([ENTRY, "run", "bad.yaml"], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("mtlsearch: bad.yaml:2:")
    assert done.stderr.count("\n") == 1
    assert [path.name for path in tmp_path.iterdir()] == ["bad.yaml"]


def test_a_failing_disk_is_no_traceback_either(mtlsearch, space_file, tmp_path, monkeypatch):
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device", "study.journal")

    monkeypatch.setattr("mtlsearch.report.leaderboard.Leaderboard.write", full)
    ended = mtlsearch("run", space_file(), "--engine", "local", "--trials", 1, "--out", tmp_path / "out")
    assert ended.code == 1
    assert ended.err == (
        "mtlsearch: the disk of this host is full: [Errno 28] No space left on device: 'study.journal'. Nothing is "
        f"lost. Make room, then go on with: mtlsearch resume {tmp_path / 'out'}\n"
    )


# What they print -------------------------------------------------------------------------------------------------


def test_schema(mtlsearch):
    ended = mtlsearch("schema")
    assert ended.code == 0
    schema = json.loads(ended.out)
    jsonschema.Draft202012Validator.check_schema(schema)
    jsonschema.validate({"data": {"source": "flights"}, "space": {"model": "mmoe"}}, schema)


def test_data_list_names_every_source(mtlsearch):
    ended = mtlsearch("data", "list")
    assert ended.code == 0
    assert [line.split(":")[0] for line in ended.out.splitlines()] == [
        *("flights", "census", "synthetic_mmoe", "mimic3", "physionet2012", "pcba", "table")
    ]


def test_data_describe(mtlsearch, space_file):
    ended = mtlsearch("data", "describe", space_file())
    assert ended.code == 0
    said = dict(line.split(": ", 1) for line in ended.out.splitlines())
    assert said["source"].startswith("flights (")
    assert said["task cancelled"] == "binary, auroc; 53 of 480 positive (11.04%)"
    assert said["task air_time"].startswith("regression, rmse; mean ")
    assert said["task air_time"].endswith("; 53 of 480 missing")
    assert "distance (standardize)" in next(text for name, text in said.items() if name.endswith("numeric columns"))
    assert "carrier (4)" in said["5 categorical columns"]
    assert [said[name].split(" ")[0] for name in ("train", "validation", "test")] == ["480", "120", "120"]


def test_check_prints_the_plan_and_trains_the_extremes(mtlsearch, space_file):
    ended = mtlsearch("check", space_file())
    assert ended.code == 0, ended.err
    *plan, smallest, largest = ended.out.splitlines()
    assert plan[1].startswith("data: flights /")
    assert [plan[0], *plan[2:7]] == [
        "experiment: small",
        "tasks: cancelled (binary, auroc), dep_late15 (binary, auroc), arr_delay (regression, rmse), "
        "air_time (regression, rmse)",
        "objective: delta, maximised",
        "search: sampler random, pruner none, seed 3",
        "budget: 4 single-task baselines, then 4 trials of at most 2 epochs",
        "resources: 1 worker a trial, 1 CPU, 0 GPUs a worker",
    ]
    assert smallest.startswith("smallest configuration: ")
    assert largest.startswith("largest configuration: ")
    assert largest.endswith(" an epoch")


def test_a_dry_run_prints_the_plan_and_writes_nothing(mtlsearch, space_file, tmp_path):
    file = space_file()
    before = _tree(tmp_path)
    ended = mtlsearch("run", file, "--dry-run", "--trials", 7, "--set", "budget.wall=10m")
    assert ended.code == 0, ended.err
    lines = ended.out.splitlines()
    assert "budget: 4 single-task baselines, then 7 trials of at most 2 epochs, at most 10m00s" in lines
    assert "resources: 1 worker a trial, 1 CPU, 0 GPUs a worker" in lines
    first = lines.index("the first 5 configurations: ")
    assert [line.split("=")[0] for line in lines[first + 1 :]] == 5 * ["  model.kind"]
    assert _tree(tmp_path) == before
