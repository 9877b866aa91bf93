"""`mtlsearch export`: a trial as a folder of its own, read back without a search, refused when it was changed."""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

import mtlsearch as package
from mtlsearch.data import open_store
from mtlsearch.errors import ConfigError
from mtlsearch.export.model_folder import ModelFolder
from mtlsearch.folder import ExperimentFolder
from mtlsearch.folder.files import FolderFiles
from mtlsearch.records import derive_seed
from mtlsearch.report.experiment import read_experiment_facts
from mtlsearch.train import Checkpoints

pytestmark = pytest.mark.slow

CPU = torch.device("cpu")
FILES = {"README.md", "config.json", "manifest.json", "model.safetensors", "program.pt2", "schema.json"}


@pytest.fixture
def experiment(flights, tmp_path) -> Path:
    """A copy of a finished experiment, to be damaged."""
    return Path(shutil.copytree(flights.folder, tmp_path / "out"))


@pytest.fixture
def model(flights, tmp_path) -> Path:
    """A copy of its exported winner, to be damaged."""
    return Path(shutil.copytree(flights.model, tmp_path / "model"))


# What is exported ------------------------------------------------------------------------------------------------


def test_the_best_trial_by_default_with_the_weights_of_its_best_epoch(mtlsearch, flights, tmp_path) -> None:
    ended = mtlsearch("export", flights.folder, "--out", tmp_path / "model")
    said = f"trial {flights.winner}, the best of 2 complete trials on validation: {tmp_path / 'model'}\n"
    assert (ended.code, ended.out, ended.err) == (0, said, "")
    assert {path.name for path in (tmp_path / "model").iterdir()} == FILES
    (best,) = package.open(flights.folder).best.to_pylist()
    config = json.loads((tmp_path / "model" / "config.json").read_text())
    assert (config["trial"], config["best_epoch"]) == (best["trial"], best["best_epoch"])
    state = Checkpoints(ExperimentFolder.open(flights.folder).trial(flights.winner).checkpoints).best(CPU)
    weights = load_file(tmp_path / "model" / "model.safetensors")
    assert weights.keys() == state.model.keys()
    assert all(torch.equal(weights[name], tensor) for name, tensor in state.model.items())


def test_any_trial_or_baseline_by_its_number(mtlsearch, flights, tmp_path) -> None:
    ended = mtlsearch("export", flights.folder, "--trial", 2, "--out", tmp_path / "model")
    assert ended.out == f"trial 2, as asked for: {tmp_path / 'model'}\n"
    baseline = package.load(tmp_path / "model")
    assert [task.name for task in baseline.tasks] == ["arr_delay"]
    found = baseline.table(baseline.split("test"))
    assert found.column_names == ["row", "arr_delay"]
    labels = open_store(ModelFolder.open(tmp_path / "model").config.data).split("test").labels_NL[:, 2]
    errors = (found["arr_delay"].to_numpy() - labels)[~np.isnan(labels)]
    test = json.loads((flights.folder / "trials" / "00002" / "test.json").read_text())
    assert np.sqrt(np.mean(errors**2)) == pytest.approx(test["arr_delay"]["rmse"], rel=1e-6)


def test_the_final_ranking_chooses_where_there_is_one_and_the_card_has_its_intervals(
    mtlsearch, space_file, tmp_path
) -> None:
    space = space_file(final="{top_k: 2, seeds: 2}", budget="{trials: 2, epochs: 1}")
    assert mtlsearch("run", space, "--engine", "local", "--out", tmp_path / "out").code == 0
    final = read_experiment_facts(ExperimentFolder.open(tmp_path / "out")).final
    ended = mtlsearch("export", tmp_path / "out", "--out", tmp_path / "model")
    assert ended.out.startswith(f"trial {final.rows[0].trial}, the best of the final ranking: ")
    card = package.load(tmp_path / "model").card
    assert "This configuration again on 2 fresh seeds, scored on test: mean and 95 % interval." in card
    score = final.rows[0].scores["air_time"]
    assert f"| air_time | rmse | {score.mean:.5g} [{score.low:.5g}, {score.high:.5g}] | " in card
    table = package.open(tmp_path / "out").final
    assert {
        "rank": 1,
        "trial": final.rows[0].trial,
        "what": "score",
        "task": "air_time",
        "mean": score.mean,
    }.items() <= (next(row for row in table.to_pylist() if row["task"] == "air_time")).items()


def test_the_card_agrees_with_the_leaderboard(flights) -> None:
    card, (best,) = package.load(flights.model).card, package.open(flights.folder).best.to_pylist()
    record = flights.trial("model.json")
    assert f"- Size: {record['num_parameters']:,} parameters, {record['multiply_adds']:,} multiply-adds a row." in card
    assert json.loads((flights.folder / "plan.json").read_text())["data_digest"] in card
    for name in ("cancelled/auroc", "dep_late15/average_precision", "arr_delay/rmse", "air_time/r2"):
        task, metric = name.split("/")
        (line,) = (line for line in card.splitlines() if line.startswith(f"| {task} | {metric} "))
        shown = [cell.strip() for cell in line.split("|")[3:5]]
        assert shown == [f"{best[name]:.5g}", f"{best[f'test/{name}']:.5g}"]
    assert f"| model.kind | {best['model.kind']} |" in card


def test_the_program_gives_what_predict_gives_for_any_number_of_rows(flights) -> None:
    model, folder = package.load(flights.model), ModelFolder.open(flights.model)
    split = open_store(folder.config.data).split("test")
    program, expected = model.program().module(), model.table(model.split("test"))
    for rows in (1, 2, 120):
        found = program(torch.tensor(split.numeric_NF[:rows]), torch.tensor(split.categorical_NC[:rows]).long())
        for name in ("cancelled", "arr_delay"):
            np.testing.assert_allclose(found[name].detach(), expected[name][:rows], rtol=1e-5, atol=1e-7)


def test_what_is_loaded_needs_no_search_and_unpickles_nothing(flights, tmp_path) -> None:
    program = (
        "import sys, pickle\n"
        "for name in ('ray', 'optuna', 'wandb'): sys.modules[name] = None\n"
        "import torch, mtlsearch\n"
        "def refuse(*_, **__): raise AssertionError('unpickled')\n"
        "pickle.load = pickle.loads = pickle.Unpickler = torch.load = refuse\n"
        f"model = mtlsearch.load({str(flights.model)!r})\n"
        f"sys.argv[1:] = ['predict', {str(flights.model)!r}, '--split', 'test', '--out', 'p.parquet']\n"
        "from mtlsearch.cli import main\n"
        "main()\n"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "120 rows: p.parquet\n", "")


def test_no_file_is_a_pickle_or_tells_where_it_was_made(flights) -> None:
    with zipfile.ZipFile(flights.model / "program.pt2") as program:
        parts = {name: program.read(name) for name in program.namelist()}
    assert all(not part.startswith((b"\x80", b"PK")) for part in parts.values())
    assert not any(name.endswith((".pkl", ".pickle")) for name in parts)
    assert not parts["program/data/sample_inputs/model.pt"]
    assert not any(b".py" in part for part in parts.values())


def test_importing_the_package_loads_nothing() -> None:
    program = "import sys, mtlsearch; print(sorted({'torch', 'pyarrow', 'numpy', 'pydantic'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout == "[]\n"


# Wrong input -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--trial", "99"), "--trial must be a trial of out, but there is no trial 99; it has 0 to 5."),
        (("--trial", "first"), "--trial must be a trial's number or best, found 'first'. See `mtlsearch leaderboard`."),
        (("--trial", "-1"), "--trial must be a trial's number or best, found '-1'. See `mtlsearch leaderboard`."),
    ],
)
def test_trials_that_do_not_exist(experiment, refused, tmp_path, arguments, message) -> None:
    assert refused("export", experiment, *arguments, "--out", tmp_path / "model") == message


def test_folders_that_are_no_finished_experiment(refused, experiment, space_file, tmp_path) -> None:
    out = ("--out", tmp_path / "model")
    assert refused("export", tmp_path / "no", *out).startswith("no is no experiment: it is not a folder.")
    ExperimentFolder.create(tmp_path / "new", space_file().read_text(), {"overrides": [], "tasks": []}, "{}")
    assert refused("export", tmp_path / "new", *out) == (
        "new must have a complete trial to export, but has no trial yet. Go on with `mtlsearch resume new`, or name a "
        "trial with --trial."
    ).replace("`mtlsearch resume new`", f"`mtlsearch resume {tmp_path / 'new'}`".replace(f"{tmp_path}/", ""))
    (experiment / "schema.json").write_text("{")
    assert refused("export", experiment, *out).startswith("out/schema.json: the file must be the schema")


def test_a_trial_that_has_no_weights(refused, experiment, tmp_path) -> None:
    shutil.rmtree(experiment / "trials" / "00004" / "checkpoint")
    assert refused("export", experiment, "--trial", 4, "--out", tmp_path / "model") == (
        "trial 4 must have kept its weights to be exported, but out/trials/00004/checkpoint has none. Export another "
        "one with --trial."
    )


def test_a_trial_that_failed_or_still_runs(mtlsearch, space_file, tmp_path, refused) -> None:
    space = "{model: {kind: mmoe, hidden: 8}, optimizer: {kind: sgd, lr: 10.0, weight_decay: 1.0}, batch_size: 8}"
    mtlsearch(
        "run",
        space_file(space=space, objective="{metric: mean}"),
        "--engine",
        "local",
        "--trials",
        1,
        "--out",
        tmp_path / "out",
    )
    out = ("--out", tmp_path / "model")
    said = refused("export", tmp_path / "out", "--trial", 0, *out)
    assert said.startswith("a trial must have been trained to be exported, but trial 0 failed: the training loss of ")
    assert "must have a complete trial to export, but has 1 trials, none of them complete" in refused(
        "export", tmp_path / "out", *out
    )


def test_what_is_there_is_not_replaced_unless_it_is_a_model_and_force_is_given(
    mtlsearch, experiment, model, refused, tmp_path
) -> None:
    again = ("export", experiment, "--out", model)
    assert refused(*again) == "--out must be a new folder, but model exists. Choose another or replace it with --force."
    assert mtlsearch(*again, "--trial", 0, "--force").code == 0
    assert json.loads((model / "config.json").read_text())["trial"] == 0
    assert [path.name for path in tmp_path.glob(".model*")] == []
    other = ("export", experiment, "--out", experiment, "--force")
    assert refused(*other) == (
        "--force replaces a model, but out is none: it has no manifest.json. Choose another folder."
    )


@pytest.mark.parametrize("name", sorted(FILES - {"manifest.json"}))
def test_a_file_that_was_changed_or_is_missing(model, refused, tmp_path, name) -> None:
    data = bytearray((model / name).read_bytes())
    data[derive_seed(name) % len(data)] ^= 1
    (model / name).write_bytes(bytes(data))
    command = ("predict", model, "--split", "test", "--out", tmp_path / "p.parquet")
    assert refused(*command) == (
        f"model/{name}: the file must be as it was exported, but its sha256 is not the one in manifest.json: it was "
        "changed or damaged. Export the model again."
    )
    (model / name).unlink()
    assert refused(*command) == f"model/{name}: the file must be there, but is missing. Export the model again."


def test_folders_that_are_no_model(model, experiment, refused, tmp_path) -> None:
    out = ("--split", "test", "--out", tmp_path / "p.parquet")
    assert refused("predict", experiment, *out) == (
        "out is no model: it has no manifest.json. Give a folder that `mtlsearch export --out` wrote."
    )
    assert refused("predict", tmp_path / "no", *out).startswith("no is no model: it is not a folder.")
    manifest = json.loads((model / "manifest.json").read_text())
    (model / "manifest.json").write_text(json.dumps({**manifest, "format": 2}))
    assert refused("predict", model, *out).startswith(
        "model/manifest.json: the model's format must be 1, which this release of mtlsearch reads, but it is 2."
    )
    (model / "manifest.json").write_text("[]")
    assert refused("predict", model, *out) == (
        "model/manifest.json: the file must be a model's manifest, but is damaged. Export again."
    )


def test_a_split_of_data_that_has_changed_since(mtlsearch, search, tmp_path, refused, people_file) -> None:
    path = tmp_path / "people.parquet"
    shutil.copy(people_file, path)
    searched = search("moved", f"{{source: table, path: {path}, tasks: [{{column: ill, kind: binary}}], drop: [id]}}")
    path.unlink()
    command = ("predict", searched.model, "--split", "test", "--out", tmp_path / "p.parquet")
    assert refused(*command) == "people.parquet: the file must exist, but there is none. Check data.path."


def _first(path: Path) -> Path:
    return path / "trials" / "00000"


@pytest.mark.parametrize("content", [b"", b"garbage" * 9, None], ids=["empty", "garbage", "cut"])
def test_damaged_checkpoints(mtlsearch, experiment, tmp_path, content) -> None:
    trial = _first(experiment)
    for path in trial.glob("checkpoint/*.pt"):
        path.write_bytes(path.read_bytes()[:2000] if content is None else content)
    ended = mtlsearch("export", experiment, "--trial", 0, "--out", tmp_path / "model")
    *passed_over, refused = ended.err.splitlines()
    names = sorted((path.name for path in trial.glob("checkpoint/*.pt")), reverse=True)
    assert (ended.code, ended.out) == (2, "")
    assert passed_over == [
        f"mtlsearch: checkpoint {name} is damaged and passed over: its bytes are not those that were written"
        for name in names
    ]
    assert refused == (
        f"mtlsearch: {trial}/checkpoint: a checkpoint must be what the trial wrote, but {', '.join(names)} are "
        "damaged. Restore it from a copy."
    )
    assert not (tmp_path / "model").exists()


def test_another_trials_checkpoint_and_metrics_or_scores_that_were_cut(refused, experiment, tmp_path) -> None:
    command, trial = ("export", experiment, "--trial", 0, "--out", tmp_path / "model"), _first(experiment)
    checkpoints = trial / "checkpoint"
    epoch = Checkpoints(FolderFiles(checkpoints)).best(CPU).epoch
    checkpoints.rename(tmp_path / "own")
    shutil.copytree(experiment / "trials" / "00001" / "checkpoint", checkpoints)
    assert "00000/checkpoint: the file must be the trial's own checkpoint" in refused(*command)
    shutil.rmtree(checkpoints)
    (tmp_path / "own").rename(checkpoints)
    (trial / "test.json").write_text("{}")
    assert "00000/test.json: the file must be the trial's test scores, of all its tasks" in refused(*command)
    lines = [json.loads(line) for line in (trial / "metrics.jsonl").read_text().splitlines()]
    kept = [{**line, "epoch": 9} if line["epoch"] == epoch else line for line in lines]
    (trial / "metrics.jsonl").write_text("".join(f"{json.dumps(line)}\n" for line in kept))
    assert f"00000/metrics.jsonl: the file must have epoch {epoch}, whose weights were kept" in refused(*command)


def _reseal(model: Path, name: str, content: bytes) -> None:
    manifest = json.loads((model / "manifest.json").read_text())
    (model / name).write_bytes(content)
    manifest["files"][name] = hashlib.sha256(content).hexdigest()
    (model / "manifest.json").write_text(json.dumps(manifest))


def test_a_model_whose_files_do_not_belong_together(model, table, refused, tmp_path) -> None:
    command = ("predict", model, "--split", "test", "--out", tmp_path / "p.parquet")
    config = (model / "config.json").read_bytes()
    _reseal(model, "config.json", (table.model / "config.json").read_bytes())
    assert "model/config.json: the model's columns and tasks must be those of schema.json" in refused(*command)
    _reseal(model, "config.json", config)
    _reseal(model, "program.pt2", b"garbage")
    with pytest.raises(ConfigError, match=r"must be a torch\.export program"):
        package.load(model).program()
    for content in (b"garbage" * 9, (table.model / "model.safetensors").read_bytes()):
        _reseal(model, "model.safetensors", content)
        assert "model/model.safetensors: the weights must be those of the model in config.json" in refused(*command)


def test_files_that_the_manifest_does_not_name(model, refused, tmp_path) -> None:
    command = ("predict", model, "--split", "test", "--out", tmp_path / "p.parquet")
    (model / "extra").write_text("x")
    assert refused(*command).startswith("model/extra: a model's folder must hold what was exported alone")
    (model / "extra").unlink()
    manifest = json.loads((model / "manifest.json").read_text())
    (model / "manifest.json").write_text(json.dumps({**manifest, "format": True}))
    assert refused(*command).startswith("model/manifest.json: the file must be a model's manifest, but is damaged.")
    del manifest["files"]["program.pt2"]
    (model / "manifest.json").write_text(json.dumps(manifest))
    assert "model/program.pt2: a model's folder must hold" in refused(*command)
    (model / "program.pt2").unlink()
    assert refused(*command) == "model/manifest.json: the manifest must name program.pt2, but does not. Export again."
