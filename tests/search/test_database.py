"""A study in PostgreSQL: the decisions of a journal, several drivers, and a server that comes and goes."""

from __future__ import annotations

import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import replace
from itertools import repeat
from pathlib import Path

import optuna
import psycopg
import pytest
import sqlalchemy as sa
from conftest_postgresql import Server
from conftest_search import SERVED, Read, measured, run, value

from mtlsearch.errors import ConfigError, MtlsearchError
from mtlsearch.records import EpochMetrics, TrialOrder, TrialRecord
from mtlsearch.search import Search, check_storage, heartbeat, postgresql, read_records
from mtlsearch.search import database as database_module
from mtlsearch.search.place import Database, StudyPlace
from mtlsearch.space import Experiment

pytestmark = pytest.mark.slow


def at(url: str, driver: str = "one") -> Database:
    """The study as the driver of a folder has it."""
    return Database(url, "fake", driver, f"host:/{driver}", data_digest="abc")


def new(experiment: Experiment, place: StudyPlace, **options: object) -> Search:
    """A search over the study, new or begun."""
    return Search(experiment, SERVED, place, **{"past": lambda number: [], **options})  # type: ignore[arg-type]


def facts(records: list[TrialRecord]) -> list[TrialRecord]:
    """What must agree between two studies: everything but where trials are."""
    return [replace(record, folder="", here=True) for record in records]


def undisturbed(experiment: Experiment, folder: Path) -> list[TrialRecord]:
    """What a search with a journal comes to."""
    run(new(experiment, folder / "study.journal"))
    return facts(read_records(folder / "study.journal"))


def rows(url: str, query: str) -> list[tuple[object, ...]]:
    """What the server has, past everything that is in memory."""
    with psycopg.connect(url) as connection:
        return connection.execute(query.encode()).fetchall()


@pytest.mark.parametrize(
    "changes",
    [
        ("search.pruner=median",),
        ("search.pruner=hyperband",),
        ("search.pruner=successive_halving", "search.sampler=qmc"),
        ("search.pruner=wilcoxon", "search.sampler=gp", "budget.trials=12"),
        ("objective.metric=delta", "final={top_k: 2, seeds: 2}"),
    ],
)
def test_decisions_are_those_of_a_journal(read: Read, tmp_path: Path, database: str, changes: tuple[str, ...]) -> None:
    experiment = read(*changes)
    run(new(experiment, at(database)))
    assert facts(read_records(at(database))) == undisturbed(experiment, tmp_path)


def test_optuna_opens_it(read: Read, database: str) -> None:
    """And so do its dashboard and everything else that knows Optuna's tables."""
    search = new(read("search.pruner=median"), at(database))
    run(search)
    url = database.replace("postgresql://", "postgresql+psycopg://")
    storage = optuna.storages.RDBStorage(url)
    study = optuna.load_study(study_name="fake", storage=storage)
    seen = [(t.number, t.state.name, t.params, t.value, t.intermediate_values) for t in study.trials]
    assert seen == [(r.number, r.state, r.params, r.value, r.intermediate) for r in search.records()]
    assert study.best_trial.number == search.best().number  # type: ignore[union-attr]
    assert study.trials[0].user_attrs["driver"] == {"id": "one", "folder": "host:/one"}
    storage.engine.dispose()


def test_a_trial_that_has_ended_stays_as_it_ended(read: Read, database: str) -> None:
    search = new(read(), at(database))
    order = search.next()
    assert order is not None
    search.fail(order.number, "its process was lost")
    before = read_records(at(database))
    with pytest.raises(RuntimeError, match="finished"):
        search.fail(order.number, "again")
    assert read_records(at(database)) == search.records() == before


def test_what_is_enqueued_from_outside_is_tried_next(read: Read, database: str) -> None:
    """With Optuna's own means, while the search runs."""
    search = new(read(), at(database))
    search.next()
    storage = optuna.storages.RDBStorage(database.replace("postgresql://", "postgresql+psycopg://"))
    study = optuna.load_study(study_name="fake", storage=storage)
    study.enqueue_trial({"model": "shared_bottom", "model.shared_bottom.hidden": 128, "optimizer.lr": 0.001})
    storage.engine.dispose()
    order, following = search.next(), search.next()
    assert order is not None
    assert (order.number, order.config.model.hidden, order.config.optimizer.lr) == (1, 128, 0.001)
    assert following is not None
    assert following.number == 2


def test_what_is_written_together_is_there_together_or_not_at_all(
    read: Read, database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    search = new(read("search.pruner=successive_halving"), at(database))
    order = search.next()
    assert order is not None
    before = search.records()

    def broken(*_: object) -> bool:
        raise ZeroDivisionError

    with monkeypatch.context() as patch:  # the epoch's value is written before the pruner is asked
        patch.setattr(search._study.pruner, "prune", broken)
        with pytest.raises(ZeroDivisionError):
            search.report(order.number, measured(1, 0.5))
    assert search.records() == before == read_records(at(database))
    with monkeypatch.context() as patch:  # the trial is made before it has parameters
        patch.setattr(search._experiment.space.__class__, "suggest", broken)
        with pytest.raises(ZeroDivisionError):
            search.next()
    assert search.records() == before == read_records(at(database))
    following = search.next()
    assert following is not None
    assert following.number == 1


def test_a_report_costs_the_server_the_same_however_many_trials_there_are(read: Read, database: str) -> None:
    search = new(read("budget.trials=60", "search.sampler=random", "search.pruner=successive_halving"), at(database))
    statements: list[str] = []
    engine = search._file._storage._rdb.engine  # type: ignore[union-attr]

    def note(*event: str) -> None:
        if threading.current_thread() is threading.main_thread():  # not the heartbeat's
            statements.append(event[2])

    sa.event.listen(engine, "before_cursor_execute", note)
    counts = []
    for _ in range(60):
        order = search.next()
        assert order is not None
        statements.clear()
        search.report(order.number, measured(1, 0.5))
        counts.append(len(statements))
    assert set(counts) == {counts[0]}
    assert counts[0] <= 12


# Several drivers ---------------------------------------------------------------------------------------------


@pytest.fixture
def fast_beats(monkeypatch: pytest.MonkeyPatch) -> None:
    """A driver that says nothing for about a second is gone."""
    monkeypatch.setattr(heartbeat, "BEAT_SECONDS", 0.08)


def wait_until(holds: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not holds():
        assert time.monotonic() < deadline, "it did not come to that"
        time.sleep(0.01)


def silence(search: Search) -> None:
    """What is left of a driver whose process was killed, stopped or cut off: nothing that is heard."""
    search._file._storage.heartbeat.stop()  # type: ignore[union-attr]


def epochs(order: TrialOrder) -> Iterator[EpochMetrics]:
    """What a trial measures."""
    for epoch in range(1, order.epochs + 1):
        yield measured(epoch, value(order.config, order.number, epoch))


def together(*searches: Search) -> dict[int, int]:
    """Runs each driver's trials, an epoch of each in turn, to the end; trial → which driver had it."""
    started: dict[int, int] = {}
    running: list[Iterator[tuple[int, EpochMetrics]] | None] = [None for _ in searches]
    while not all(search.finished for search in searches):
        for index, search in enumerate(searches):
            if running[index] is None and not search.finished and (order := search.next()) is not None:
                assert order.number not in started
                started[order.number] = index
                running[index] = zip(repeat(order.number), epochs(order), strict=False)
            trial = running[index]
            if trial is not None and search.report(*next(trial)).stops:
                running[index] = None
    return started


@pytest.mark.usefixtures("fast_beats")
@pytest.mark.parametrize("metric", ["mean", "delta"])
def test_drivers_share_the_budget_the_baselines_and_the_final_trials(read: Read, database: str, metric: str) -> None:
    experiment = read(f"objective.metric={metric}", "final={top_k: 2, seeds: 2}", "budget.trials=13")
    searches = [new(experiment, at(database, name)) for name in ("one", "two", "three")]
    started = together(*searches)
    records = read_records(at(database))
    assert [record.number for record in records] == list(range(len(records))) == sorted(started)
    assert sum(record.role == "trial" for record in records) == 13
    assert [record.task for record in records if record.role == "baseline"] == (
        ["late", "delay"] if metric == "delta" else []
    )
    again = [(record.task, record.candidate, record.repeat) for record in records if record.role == "final"]
    assert len(again) == len(set(again)) == 2 * (2 + 2)
    assert all(record.state in ("COMPLETE", "PRUNED") for record in records)
    names = ("host:/one", "host:/two", "host:/three")
    assert {record.number: names.index(record.folder) for record in records} == started
    assert set(started.values()) == {0, 1, 2}
    for search in searches:
        search.next()  # looks at what the others have done last
        assert facts(search.records()) == facts(records)


@pytest.mark.usefixtures("fast_beats")
def test_a_driver_waits_for_baselines_that_another_trains(read: Read, database: str) -> None:
    experiment = read("objective.metric=delta", "budget.trials=2")
    one, two = new(experiment, at(database, "one")), new(experiment, at(database, "two"))
    late, delay = one.next(), two.next()
    assert late is not None
    assert delay is not None
    assert (late.tasks, delay.tasks) == (("late",), ("delay",))
    for metrics in epochs(late):
        one.report(late.number, metrics.model_copy(update={"train_loss": {"late": 1 / metrics.epoch}}))
    assert one.next() is None
    assert not one.finished
    for metrics in epochs(delay):
        two.report(delay.number, metrics.model_copy(update={"train_loss": {"delay": 2 / metrics.epoch}}))
    orders = [one.next(), two.next()]
    assert [order.reference.keys() for order in orders if order] == 2 * [{"late", "delay"}]
    assert orders[0].reference_losses == orders[1].reference_losses  # type: ignore[union-attr]  # none has both folders
    assert one.next() is None
    assert not one.finished  # its own trial runs
    for metrics in epochs(orders[0]):  # type: ignore[arg-type]
        one.report(orders[0].number, metrics)  # type: ignore[union-attr]
    assert not one.finished  # the other may be gone
    wait_until(lambda: one.finished)  # it lives: its trial goes on without this one
    assert two.next() is None


@pytest.mark.usefixtures("fast_beats")
@pytest.mark.parametrize("metric", ["mean", "delta"])
def test_what_a_driver_that_is_gone_had_running_others_take_over(read: Read, database: str, metric: str) -> None:
    """Also its baselines, without which nothing can start; nothing is lost, and nothing is counted twice."""
    changes = (f"objective.metric={metric}", "final={top_k: 1, seeds: 2}", "budget.trials=4", "search.pruner=none")
    one, two = (new(read(*changes), at(database, name)) for name in ("one", "two"))
    left = one.next()
    assert left is not None
    one.report(left.number, measured(1, 0.25))
    silence(one)
    taken: dict[int, TrialOrder] = {}
    while not two.finished:
        order = two.next()
        if order is None:
            time.sleep(0.02)
            continue
        taken[order.number] = order
        assert any(two.report(order.number, metrics).stops for metrics in epochs(order))
    assert taken[left.number] == left
    assert two.taken_over == {left.number: "host:/one"}
    found = read_records(at(database, "two"))
    assert sorted(taken) == [record.number for record in found]
    assert {record.folder for record in found} == {"host:/two"}
    assert all(record.state == "COMPLETE" for record in found)
    assert [record.role for record in found].count("trial") == 4
    assert [record.role for record in found].count("final") == (2 * (1 + 2))
    if metric == "mean":
        assert found[left.number].intermediate[1] == 0.25  # what was heard of it stays, as with any trial taken up


@pytest.mark.usefixtures("fast_beats")
def test_a_driver_that_was_silent_and_comes_back_ends(read: Read, database: str) -> None:
    """It may have been cut off, or its machine suspended. Its trials are another's, and it is told."""
    experiment = read("budget.trials=2", "search.pruner=none")
    one, two = (new(experiment, at(database, name)) for name in ("one", "two"))
    first, second = one.next(), two.next()
    assert first is not None
    assert second is not None
    silence(one)
    assert any(two.report(second.number, metrics).stops for metrics in epochs(second))
    wait_until(lambda: two.next() == first)
    with pytest.raises(MtlsearchError, match=r"nothing was heard from the driver of host:/one .* mtlsearch resume"):
        one.report(first.number, measured(1, 0.5))
    assert read_records(at(database))[first.number].intermediate == {}
    again = new(experiment, at(database, "one"))
    assert again.next() is None  # nothing is its own any more
    two.report(first.number, measured(1, 0.5))
    silence(two)
    heard = [measured(1, 0.5), measured(2, 0.75)]  # in its folder from before it was silent; the study knows of one
    again = new(experiment, at(database, "one"), past=lambda number: heard if number == first.number else [])
    wait_until(lambda: again.next() == first)
    assert again.record(first.number).intermediate == {1: 0.5, 2: 0.75}
    assert again.taken_over == {first.number: "host:/two"}


@pytest.mark.usefixtures("fast_beats")
def test_a_server_that_was_away_makes_nobody_look_dead(read: Read, server: Server, database: str) -> None:
    experiment = read("budget.trials=2", "search.pruner=none")
    one, two = (new(experiment, at(database, name)) for name in ("one", "two"))
    first, second = one.next(), two.next()
    assert first is not None
    assert second is not None
    server.control("stop", "-m", "immediate")
    time.sleep(2 * heartbeat.SILENT_BEATS * heartbeat.BEAT_SECONDS)
    server.control("start")
    assert any(two.report(second.number, metrics).stops for metrics in epochs(second))
    wait_until(lambda: two.finished)
    assert two.next() is None
    assert any(one.report(first.number, metrics).stops for metrics in epochs(first))


@pytest.mark.usefixtures("fast_beats")
def test_all_that_was_left_is_taken_over_and_by_whoever_has_room(read: Read, database: str) -> None:
    experiment = read("budget.trials=3", "search.pruner=none")
    one, two, three = (new(experiment, at(database, name)) for name in ("one", "two", "three"))
    first, second, own = one.next(), one.next(), two.next()
    assert first is not None
    assert second is not None
    assert own is not None
    assert three.next() is None
    silence(one)
    wait_until(lambda: two.next() == first)
    heard = three._file.moment
    wait_until(lambda: three._file.moment > heard + 3)
    assert not three.finished  # that somebody took one of its trials over is no sign of life
    assert three.next() == second
    for search, order in ((two, first), (two, own), (three, second)):
        assert any(search.report(order.number, metrics).stops for metrics in epochs(order))
    wait_until(lambda: two.next() is None and two.finished)
    assert {record.state for record in read_records(at(database))} == {"COMPLETE"}


@pytest.mark.usefixtures("fast_beats")
def test_a_driver_that_was_resumed_a_moment_ago_keeps_its_trials(read: Read, database: str) -> None:
    """Also if who would take them over has not heard of it yet."""
    experiment = read("budget.trials=1", "search.pruner=none")
    one, two = (new(experiment, at(database, name)) for name in ("one", "two"))
    order = one.next()
    assert order is not None
    silence(one)
    two.next()
    wait_until(lambda: bool(two._file.left_behind()))
    silence(two)
    again = new(experiment, at(database, "one"))
    assert two.next() is None
    assert again.next() == order
    assert any(again.report(order.number, metrics).stops for metrics in epochs(order))


def test_a_driver_whose_time_is_up_takes_nothing_over(
    read: Read, database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(heartbeat, "BEAT_SECONDS", 0.02)
    experiment = read("budget.trials=3")
    one, two = new(experiment, at(database, "one")), new(experiment, at(database, "two"), seconds_left=lambda: 0.0)
    left = one.next()
    assert left is not None
    silence(one)
    two.next()
    wait_until(lambda: bool(two._file.left_behind()))
    assert two.next() is None
    assert two.finished


def test_a_driver_takes_up_what_the_one_before_it_in_its_folder_had_running(read: Read, database: str) -> None:
    """And nothing of another's that lives."""
    experiment = read("budget.trials=3", "search.pruner=none")
    one, two = new(experiment, at(database, "one")), new(experiment, at(database, "two"))
    first, second = one.next(), two.next()
    assert first is not None
    assert second is not None
    one.report(first.number, measured(1, 0.5))
    del one
    again = new(experiment, at(database, "one"), past=lambda number: [measured(1, 0.5), measured(2, 0.6)])
    assert again.record(first.number).intermediate == {1: 0.5, 2: 0.6}  # of the second, the driver had not heard
    taken, new_one = again.next(), again.next()
    assert taken == first
    assert new_one is not None
    assert new_one.number == 2
    assert again.next() is None
    assert again.record(second.number).state == "RUNNING"
    assert again.record(second.number).folder == "host:/two"


def test_of_two_processes_over_one_folder_the_older_ends(read: Read, database: str) -> None:
    """However the second came to run: the folder was copied, or its lock does not reach the other machine."""
    experiment = read()
    old = new(experiment, at(database))
    order = old.next()
    assert order is not None
    new(experiment, at(database))
    with pytest.raises(MtlsearchError, match="another process goes on with host:/one"):
        old.report(order.number, measured(1, 0.5))
    assert read_records(at(database))[0].intermediate == {}


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ("space.optimizer={lr: 0.001}", "space"),
        ("objective.metric=delta", "objective"),
        ("budget.epochs=7", "budget.epochs"),
        ("search.pruner=median", "search.pruner"),
        ("search.seed=6", "search.seed"),
    ],
)
def test_drivers_must_do_the_same_search(read: Read, database: str, change: str, named: str) -> None:
    new(read(), at(database)).next()
    storage = f"search.storage={database}"
    check_storage(read(storage), SERVED, "abc")
    check_storage(read(storage, "budget.trials=90", "name=other"), SERVED, "abc")
    with pytest.raises(ConfigError, match=rf"another experiment's, which differs in {named}\. Run the same"):
        check_storage(read(change, storage), SERVED, "abc")
    with pytest.raises(ConfigError, match=f"differs in {named}"):
        new(read(change), at(database, "two"))
    with pytest.raises(ConfigError, match="differs in data"):
        check_storage(read(storage), SERVED, "abd")


def test_a_study_of_somebody_elses_is_left_alone(read: Read, database: str) -> None:
    storage = optuna.storages.RDBStorage(database.replace("postgresql://", "postgresql+psycopg://"))
    optuna.create_study(study_name="fake", storage=storage).ask()
    storage.engine.dispose()
    with pytest.raises(ConfigError, match="was not made by mtlsearch"):
        check_storage(read(f"search.storage={database}"), SERVED, "abc")
    with pytest.raises(ConfigError, match="was not made by mtlsearch"):
        new(read(), at(database))


def test_two_drivers_that_come_at_once_make_one_study(read: Read, database: str) -> None:
    experiment, found = read(), []

    def begin(name: str) -> None:
        found.append(new(experiment, at(database, name)).next())

    threads = [threading.Thread(target=begin, args=(name,)) for name in ("one", "two", "three")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(order.number for order in found if order is not None) == [0, 1, 2]
    assert rows(database, "SELECT count(*) FROM studies") == [(1,)]


# A server that comes and goes ----------------------------------------------------------------------------------


def test_a_server_that_is_restarted_changes_nothing(read: Read, tmp_path: Path, server: Server, database: str) -> None:
    experiment = read("objective.metric=delta", "search.pruner=hyperband", "final={top_k: 1, seeds: 1}")
    search = new(experiment, at(database))
    asked = 0
    while (order := search.next()) is not None:
        for metrics in epochs(order):
            asked += 1
            if asked % 25 == 0:
                server.control("restart", "-m", "immediate")
            if search.report(order.number, metrics).stops:
                break
        if order.number % 9 == 0:
            server.control("restart", "-m", "immediate")
    assert asked > 50
    assert facts(read_records(at(database))) == undisturbed(experiment, tmp_path)


def test_a_server_that_is_gone_for_a_while_is_waited_for(
    read: Read, tmp_path: Path, server: Server, database: str
) -> None:
    experiment = read("budget.trials=3", "search.pruner=median")
    search = new(experiment, at(database))
    order = search.next()
    assert order is not None
    server.control("stop", "-m", "immediate")
    back = threading.Timer(1.5, lambda: server.control("start"))
    back.start()
    for metrics in epochs(order):
        search.report(order.number, metrics)
    back.join()
    run(search)
    assert facts(read_records(at(database))) == undisturbed(experiment, tmp_path)


def test_a_server_that_does_not_come_back_ends_the_search_which_can_go_on_later(
    read: Read, tmp_path: Path, server: Server, database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(database_module, "PATIENCE_SECONDS", 0.5)
    monkeypatch.setattr(postgresql, "RESTART_SECONDS", 0.1)
    experiment = read("budget.trials=3", "search.pruner=median")
    search = new(experiment, at(database))
    order = search.next()
    assert order is not None
    server.control("stop", "-m", "immediate")
    try:
        with pytest.raises(MtlsearchError, match=r"did not answer for 0 seconds .*resume when it is back"):
            search.report(order.number, measured(1, 0.5))
        with pytest.raises(ConfigError, match=r"127\.0\.0\.1:\d+/studies cannot be used: .*refused"):
            new(experiment, at(database))
        with pytest.raises(ConfigError, match="cannot be used"):
            read_records(at(database))
        with pytest.raises(ConfigError, match="cannot be used"):
            check_storage(read(f"search.storage={database}"), SERVED)
    finally:
        server.control("start")
    run(new(experiment, at(database)))
    assert facts(read_records(at(database))) == undisturbed(experiment, tmp_path)


class CuttingProxy:
    """Between a driver and the server. When told, it hands on the next commit and cuts the line before the answer."""

    def __init__(self, port: int) -> None:
        self._server = ("127.0.0.1", port)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self.cut_next = False
        self.cuts = 0
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        """Takes no more connections."""
        self._listener.close()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            upstream = socket.create_connection(self._server)
            threading.Thread(target=self._pump, args=(client, upstream, self._watch), daemon=True).start()
            threading.Thread(target=self._pump, args=(upstream, client, lambda data: False), daemon=True).start()

    def _watch(self, data: bytes) -> bool:
        return self.cut_next and b"COMMIT\0" in data

    def _pump(self, source: socket.socket, target: socket.socket, cuts: Callable[[bytes], bool]) -> None:
        with closing(source), closing(target):
            try:
                while data := source.recv(65536):
                    cut = cuts(data)
                    if cut:
                        self.cut_next, self.cuts = False, self.cuts + 1
                        source.shutdown(socket.SHUT_RDWR)
                    target.sendall(data)
                    if cut:
                        return
            except OSError:
                pass  # the other direction has closed both


def test_a_commit_whose_answer_was_lost_is_neither_lost_nor_done_twice(
    read: Read, tmp_path: Path, server: Server, database: str
) -> None:
    proxy = CuttingProxy(server.port)
    experiment = read("objective.metric=delta", "search.pruner=successive_halving", "budget.trials=12")
    with closing(proxy):
        search = new(experiment, at(database.replace(str(server.port), str(proxy.port))))
        wanted = 0
        while not search.finished:
            proxy.cut_next = True
            wanted += 1
            order = search.next()
            assert order is not None
            for metrics in epochs(order):
                proxy.cut_next = metrics.epoch != 2
                if search.report(order.number, metrics).stops:
                    break
        assert proxy.cuts > 40
    assert facts(read_records(at(database))) == undisturbed(experiment, tmp_path)
    assert wanted == 14


# What is refused -------------------------------------------------------------------------------------------------


def test_a_password_belongs_elsewhere(read: Read) -> None:
    for url in (
        "postgresql://me:s3cret@host/db",
        "postgresql://me:s3/cret@host/db",
        "postgresql://me@host/db?password=s3cret",
    ):
        with pytest.raises(ConfigError, match=r"must not hold a password.*PGPASSWORD") as refused:
            read(f"search.storage={url}")
        assert "cret" not in str(refused.value)


@pytest.mark.parametrize("url", ["sqlite:///study.db", "mysql://host/db", "study.journal"])
def test_other_databases_are_refused(read: Read, url: str) -> None:
    with pytest.raises(ConfigError, match="storage must begin with postgresql://"):
        read(f"search.storage={url}")


def test_cmaes_would_have_its_state_unpickled_from_the_database(read: Read) -> None:
    with pytest.raises(ConfigError, match="cmaes cannot have a storage"):
        read("search.sampler=cmaes", "search.storage=postgresql://host/db")


def test_psycopg_is_an_extra(read: Read, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "psycopg", None)
    with pytest.raises(ConfigError, match=r"pip install 'mtlsearch\[postgresql\]'"):
        check_storage(read("search.storage=postgresql://host/db"), SERVED)


def test_a_database_that_is_not_there_is_named(read: Read, server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(postgresql, "RESTART_SECONDS", 0.1)
    with pytest.raises(ConfigError, match='database "nowhere" does not exist'):
        check_storage(read(f"search.storage={server.url('nowhere')}"), SERVED)
