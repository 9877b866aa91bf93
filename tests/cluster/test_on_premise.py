"""cluster/config.yaml, for real: SSH servers on hosts of this machine, `ray up`, searches, `ray down`, nothing left."""

from __future__ import annotations

import csv
import gzip
import json
import os
import random
import re
import secrets
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import pytest
from hosts import ROOT, Host, Network, why_not
from on_premise import Cluster, until

from mtlsearch.data.census_fields import FIELDS

pytestmark = pytest.mark.cluster

REAL = ROOT.parent / "shared" / "data" / "census"
PEOPLE = {"census-income.data": 20_000, "census-income.test": 4_000}
TRIALS, EPOCHS = 5, 20
SEARCH = ("run", "search_spaces/census.yaml", "--set", "budget.wall=1h", "--set", "search.pruner=none")
SEEDED = (*SEARCH, "--set", "search.sampler=random", "--set", f"budget.epochs={EPOCHS}", "--trials", str(TRIALS))
"""Its seed decides what is found, whenever and wherever its trials run. They are long enough for each host to have
one: it takes seconds to start a trial's process."""
FAULTED = (*SEEDED, "--set", "resources.max_retries=0", "--set", "resources.timeout=20", "--set", "tracking.wandb=null")
"""A single retry that counts would fail its trial."""
CLOCKED = ("seconds", "samples_per_second")
KEY = secrets.token_hex(20)
PROGRAM = """
import sys, time
from hosts import Network
with Network.open() as network:
    host = network.add("one", "10.77.1.1")
    host.start("sleep", "1000")
    print(host.pid, network.folder, flush=True)
    time.sleep(1000)
"""


@pytest.fixture(scope="module", autouse=True)
def _hosts_can_be_made() -> None:
    reason = why_not()
    if reason is not None:
        pytest.skip(reason)


@pytest.fixture(scope="module")
def people(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder `census` with few people: real ones where they are, else invented ones."""
    folder = tmp_path_factory.mktemp("data")
    (folder / "census").mkdir()
    for name, count in PEOPLE.items():
        whole = REAL / f"{name}.gz"
        if whole.exists():
            with gzip.open(whole, "rt") as file:
                lines = list(islice(file, count))
        else:
            lines = [_person(random.Random(f"{name}{number}")) for number in range(count)]
        (folder / "census" / name).write_text("".join(lines))
    return folder


def _person(draw: random.Random) -> str:
    age, degree = draw.randrange(16, 90), draw.random() < 0.3
    married = draw.random() < age / 100
    values = dict.fromkeys(FIELDS, "0") | {
        "age": age,
        "education": "Bachelors degree(BA AB BS)" if degree else "High school graduate",
        "marital_stat": "Divorced" if married else "Never married",
        "hs_college": "College or university" if degree and draw.random() < 0.5 else "Not in universe",
        "weeks_worked": draw.randrange(53),
        "hisp_origin": "NA",
        "income_50k": "50000+." if degree and draw.random() < 0.4 else "- 50000.",
    }
    return ", ".join(str(value) for value in values.values()) + "\n"


@pytest.fixture(scope="module")
def mount(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What head and worker share."""
    return tmp_path_factory.mktemp("mount")


@pytest.fixture(scope="module")
def cluster(people: Path, mount: Path) -> Iterator[Cluster]:
    """Up, and seen to be gone in the end."""
    with Network.open() as network:
        built = Cluster.build(network, people, mount)
        built.ray("get-auth-token", "--generate")
        built.up()
        built.wait_for_cpus(2)
        namespaces, folder = _namespaces(network.hosts), network.folder
        yield built
        namespaces |= _namespaces(network.hosts)  # one was started anew
    assert _left(namespaces, folder) == []


def _namespaces(hosts: list[Host]) -> set[str]:
    kinds = ("net", "pid", "mnt", "uts", "ipc")
    return {str(Path(f"/proc/{host.pid}/ns/{kind}").readlink()) for host in hosts for kind in kinds}


def _left(namespaces: set[str], folder: Path) -> list[str]:
    """Processes in the namespaces, interfaces and mounts of the hosts, their files."""
    found = [str(folder)] if folder.exists() else []
    found += [line for line in Path("/proc/self/mountinfo").read_text().splitlines() if str(folder) in line]
    interfaces = [path.name for path in Path("/sys/class/net").iterdir()]
    found += [name for name in interfaces if name.startswith("to-") or name == "switch"]
    for process in Path("/proc").glob("[0-9]*"):
        try:
            theirs = {str(link.readlink()) for link in (process / "ns").iterdir()} & namespaces
        except OSError:  # it ended meanwhile
            continue
        if theirs:
            found.append(process.name)
    return found


def _experiment(cluster: Cluster, name: str) -> Path:
    return cluster.head.home / "experiments" / name


def _trials(experiment: Path) -> list[dict[str, str]]:
    with (experiment / "leaderboard.csv").open() as file:
        return [row for row in csv.DictReader(file) if row.get("role", "trial") == "trial"]


def test_this_commit_is_installed_on_every_host(cluster: Cluster) -> None:
    commit = subprocess.run(["git", "-C", ROOT, "rev-parse", "HEAD"], capture_output=True, text=True, check=True).stdout
    for host in (cluster.head, cluster.worker):
        assert host.run("git", "-C", "mtlsearch/source", "rev-parse", "HEAD").stdout == commit
        where = "import mtlsearch; print(mtlsearch.__file__)"
        assert "/home/user/mtlsearch/venv" in host.run("mtlsearch/venv/bin/python", "-c", where).stdout


@pytest.fixture(scope="module")
def undisturbed(cluster: Cluster) -> set[tuple[str, str]]:
    """A search in `experiments/one`; where its trials were seen to run."""
    search, seen = cluster.start(*SEEDED, "--out", "experiments/one"), set[tuple[str, str]]()

    def ended() -> bool:
        seen.update(cluster.ranks())
        return search.poll() is not None

    until(ended, 900)
    assert search.returncode == 0, _said(cluster)
    return seen


def _said(cluster: Cluster) -> str:
    return (cluster.desk.home / "submit.log").read_text()


def test_a_search_runs_on_both_hosts_and_its_results_are_on_the_head(
    cluster: Cluster, undisturbed: set[tuple[str, str]]
) -> None:
    assert undisturbed == {("head", "Trial.train"), ("worker", "Trial.train")}, "trials of one rank, on either host"
    assert "results on head: /home/user/experiments/one" in _said(cluster)
    trials = _trials(_experiment(cluster, "one"))
    assert len(trials) == TRIALS
    assert {trial["state"] for trial in trials} == {"COMPLETE"}
    assert not (cluster.worker.home / "experiments").exists(), "no shared mount: the head alone has the folder"


def test_two_ranks_of_a_trial_sit_on_two_hosts(cluster: Cluster) -> None:
    two = ("--set", "resources.workers_per_trial=2", "--set", "tracking.wandb=null", "--trials", "3")
    search, at_once = cluster.start(*SEARCH, *two, "--out", "experiments/two"), list[set[tuple[str, str]]]()

    def ended() -> bool:
        at_once.append(cluster.ranks())
        return search.poll() is not None

    until(ended, 600)
    assert search.returncode == 0, _said(cluster)
    pairs = [each for each in at_once if len(each) > 1]
    assert pairs, "an epoch takes two"
    assert all({host for host, _ in each} == {"head", "worker"} for each in pairs)
    assert all({what for _, what in each} == {"Trial.train", "OtherRank.step"} for each in pairs)
    assert {trial["state"] for trial in _trials(_experiment(cluster, "two"))} == {"COMPLETE"}


@pytest.mark.parametrize("is_mounted", [False, True])
def test_a_host_that_is_cut_off_for_30_seconds_loses_its_trial_and_comes_back(
    is_mounted: bool, cluster: Cluster, mount: Path, undisturbed: set[tuple[str, str]]
) -> None:
    """With a mount the cut-off owner can still write to where its successor's checkpoints are."""
    experiment = mount / "cut" if is_mounted else _experiment(cluster, "cut")
    search = cluster.start(*FAULTED, "--out", str(experiment) if is_mounted else "experiments/cut")
    _await_trial_on_worker(experiment)
    with cluster.network.cut(cluster.worker):
        time.sleep(1)  # what was under way has arrived
        before = _starts(experiment)
        time.sleep(29)
        owners = {pid for pid, line in cluster.worker.processes().items() if line.startswith("ray::Trial")}
        assert owners, "the cut-off owner lives: it knows of nothing but silence"
    assert search.wait(900) == 0, _said(cluster)
    _assert_taken_up(cluster, experiment, before)
    until(lambda: not owners & cluster.worker.processes().keys(), 120)  # told that it is given up, its raylet ended
    cluster.wait_for_cpus(2, 240)  # the head has started Ray there anew


def test_a_host_that_loses_its_power_loses_its_trial_and_joins_again(
    cluster: Cluster, undisturbed: set[tuple[str, str]]
) -> None:
    experiment = _experiment(cluster, "power")
    search = cluster.start(*FAULTED, "--out", "experiments/power")
    _await_trial_on_worker(experiment)
    cluster.lose(cluster.worker)
    time.sleep(1)
    before = _starts(experiment)
    assert search.wait(900) == 0, _said(cluster)
    _assert_taken_up(cluster, experiment, before)
    cluster.reboot(cluster.worker)
    cluster.wait_for_cpus(2, 240)


def _await_trial_on_worker(experiment: Path) -> None:
    """Until it has written checkpoints and has a while to go."""

    def trains() -> bool:
        try:
            ranks = json.loads((experiment / "status.json").read_text())["ranks"]
        except FileNotFoundError:
            return False
        return any(rank["host"] == "worker" and 2 < rank["epoch"] < EPOCHS / 2 for rank in ranks)

    until(trains, 300)


def _assert_taken_up(cluster: Cluster, experiment: Path, before: dict[int, set[int]]) -> None:
    """One trial was, from its checkpoint and under a number of its own; nothing else tells of it."""
    lost = {int(number) for number in re.findall(r"trial (\d+).* is taken up again: .*node", _said(cluster))}
    assert len(lost) == 1, _said(cluster)
    (number,) = lost
    starts = _starts(experiment)
    assert before[number], "it had checkpoints"
    assert max(starts[number]) > max(before[number])
    last = f"{max(starts[number]):010d}-{EPOCHS:05d}-00000000.pt"
    checkpoints = experiment / "trials" / f"{number:05d}" / "checkpoint"
    assert (checkpoints / last).exists(), "what its owner before wrote, if anything, is beside it"
    assert [trial for trial, each in starts.items() if len(each) != 1 and trial != number] == []
    assert _found(experiment) == _found(_experiment(cluster, "one"))


def _starts(experiment: Path) -> dict[int, set[int]]:
    """Of every trial, the numbers of the starts that its checkpoints are of."""
    trials = (experiment / "trials").iterdir()
    return {int(each.name): {int(file.name[:10]) for file in (each / "checkpoint").glob("*.pt")} for each in trials}


def _found(experiment: Path) -> dict[int, list[dict[str, object]]]:
    """Of every trial and baseline, what each of its epochs measured, but for what clocks say; and its test scores."""
    found = {}
    for trial in (experiment / "trials").iterdir():
        lines = [json.loads(line) for line in (trial / "metrics.jsonl").read_text().splitlines()]
        assert [line["epoch"] for line in lines] == list(range(1, EPOCHS + 1)), f"trial {trial.name}"
        kept = [{key: value for key, value in line.items() if key not in CLOCKED} for line in lines]
        test = trial / "test.json"
        found[int(trial.name)] = [*kept, json.loads(test.read_text()) if test.exists() else {}]
    return found


def test_any_command_goes_through_and_its_failure_comes_back(
    cluster: Cluster, undisturbed: set[tuple[str, str]]
) -> None:
    assert "COMPLETE" in cluster.submit("leaderboard", "experiments/one")
    mistake = cluster.submit("run", "search_spaces/nothing.yaml", check=False)
    assert "nothing.yaml" in mistake
    assert "Traceback" not in mistake.split("nothing.yaml")[0]
    with pytest.raises(AssertionError, match="ended with 1"):
        cluster.submit("run", "search_spaces/nothing.yaml")


def test_a_ray_job_runs_through_the_forwarded_dashboard(cluster: Cluster) -> None:
    forward = cluster.desk.start("env", "-C", str(ROOT), "ray", "dashboard", cluster.config)
    address = ("--address", "http://127.0.0.1:8265")
    token = {"RAY_AUTH_MODE": "token"}
    try:
        until(lambda: cluster.desk.run("ss", "-Hltn", "sport", "=", ":8265").stdout != "", 30)
        job = ("--working-dir", str(ROOT / "search_spaces"), "--", "mtlsearch", "run", "census.yaml", "--dry-run")
        data = ("--address", "auto", "--set", "data.path=/home/user/data/census")
        said = cluster.desk.run("ray", "job", "submit", *address, *job, *data, timeout=120, environment=token).stdout
        assert "succeeded" in said
        assert "objective" in said
        listed = ("ray", "job", "list", *address)
        assert cluster.desk.run(*listed, environment=token | {"RAY_AUTH_TOKEN": "0" * 64}, check=False).returncode != 0
    finally:
        cluster.end(forward)


def test_the_wandb_key_comes_by_the_environment_and_stays_nowhere(cluster: Cluster) -> None:
    said = cluster.ray("exec", cluster.config, "env | grep -c ^WANDB_API_KEY", WANDB_API_KEY=KEY)
    assert "\n1" in said.replace("\r", "")
    assert KEY not in said
    for host in (cluster.head, cluster.worker):
        found = host.run("grep", "-rlF", KEY, "/home/user", "/tmp", check=False)
        assert found.stdout == ""


def test_without_the_token_the_cluster_is_shut(cluster: Cluster) -> None:
    cluster.desk.run("mkdir", "-p", "/home/user/stranger/.ray")
    (cluster.desk.home / "stranger" / ".ray" / "auth_token").write_text("0" * 64)
    stranger = {"HOME": "/home/user/stranger", "RAY_AUTH_MODE": "token"}
    address = f"--address={cluster.head.address}:6379"
    refused = cluster.desk.run("ray", "status", address, environment=stranger, check=False)
    assert refused.returncode != 0
    assert "InvalidAuthToken" in refused.stdout
    listening = cluster.head.run("ss", "-Hltn", "sport", "=", ":8265").stdout
    assert listening.split()[3] == "127.0.0.1:8265", "the dashboard is the head's own"


def test_down_ends_ray_on_every_host(cluster: Cluster) -> None:
    cluster.down()
    until(lambda: [line for line in cluster.head.processes().values() if "sshd" not in line] == [], 20)
    until(lambda: [line for line in cluster.worker.processes().values() if "sshd" not in line] == [], 60)


def test_a_cut_link_carries_nothing_and_a_host_without_power_is_gone() -> None:
    with Network.open() as network:
        one, two = network.add("one", "10.77.2.1"), network.add("two", "10.77.2.2")
        two.start(sys.executable, "-m", "http.server", "--bind", two.address, "80")

        def answers() -> bool:
            ask = f"exec 3<> /dev/tcp/{two.address}/80"
            return one.run("timeout", "2", "bash", "-c", ask, check=False).returncode == 0

        until(answers, 20)
        with network.cut(two):
            assert not answers()
        until(answers, 20)
        network.end(two)
        assert not answers()


def test_hosts_end_with_the_program_that_made_them() -> None:
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parent)}
    program = subprocess.Popen([sys.executable, "-c", PROGRAM], env=environment, stdout=subprocess.PIPE, text=True)
    assert program.stdout is not None
    pid, folder = program.stdout.readline().split()
    namespaces = {str(Path(f"/proc/{pid}/ns/{kind}").readlink()) for kind in ("net", "pid", "mnt")}
    os.kill(program.pid, signal.SIGKILL)
    program.wait()
    program.stdout.close()
    try:
        until(lambda: _left(namespaces, Path("/nowhere")) == [], 20)
    finally:
        subprocess.run(["rm", "-rf", folder], check=True)  # files are what kill -9 leaves
