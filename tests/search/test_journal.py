"""The journal: a transaction is on disk whole or not at all, and what a killed writer left can be mended."""

from __future__ import annotations

import json
import os
import resource
import signal
import subprocess
import sys
from pathlib import Path

import optuna
import pytest

from mtlsearch.errors import ConfigError
from mtlsearch.search import mend, read_records
from mtlsearch.search.journal import AtomicJournal

KILLED_INSIDE = """
import os, signal, sys
from pathlib import Path
import optuna
from mtlsearch.search.journal import AtomicJournal
journal = AtomicJournal(Path(sys.argv[1]))
study = optuna.create_study(study_name="s", storage=optuna.storages.JournalStorage(journal))
with journal.transaction():
    study.ask().suggest_float("whole", 0, 1)
with journal.transaction():
    study.ask().suggest_float("lost", 0, 1)
    os.kill(os.getpid(), signal.SIGKILL)
"""


def storage(path: Path) -> optuna.storages.JournalStorage:
    """As any other program opens it."""
    return optuna.storages.JournalStorage(optuna.storages.journal.JournalFileBackend(str(path)))


def test_inside_a_transaction_the_writer_sees_its_changes_and_others_do_not(tmp_path: Path) -> None:
    path = tmp_path / "study.journal"
    journal = AtomicJournal(path)
    study = optuna.create_study(study_name="s", storage=optuna.storages.JournalStorage(journal))
    for expected in range(3):  # again and again: positions in the file and in the transaction must keep step
        with journal.transaction():
            trial = study.ask()
            trial.suggest_int("x", 0, 9)
            trial.report(0.5, 1)
            assert len(study.trials) == expected + 1
            assert study.trials[-1].intermediate_values == {1: 0.5}
            assert len(storage(path).get_all_trials(0)) == expected
        assert len(storage(path).get_all_trials(0)) == expected + 1
    assert [t.params for t in storage(path).get_all_trials(0)] == [t.params for t in study.trials]


def test_an_exception_inside_leaves_the_file_as_it_was(tmp_path: Path) -> None:
    path = tmp_path / "study.journal"
    journal = AtomicJournal(path)
    study = optuna.create_study(study_name="s", storage=optuna.storages.JournalStorage(journal))
    before = path.read_bytes()

    def ask_and_stumble() -> None:
        with journal.transaction():
            study.ask()
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        ask_and_stumble()
    assert path.read_bytes() == before
    assert not Path(f"{path}.lock").is_symlink()


def test_another_writer_between_transactions_is_read(tmp_path: Path) -> None:
    path = tmp_path / "study.journal"
    journal = AtomicJournal(path)
    study = optuna.create_study(study_name="s", storage=optuna.storages.JournalStorage(journal))
    with journal.transaction():
        study.ask()
    other = optuna.load_study(study_name="s", storage=storage(path))
    other.set_user_attr("note", "from a dashboard")
    with journal.transaction():
        study.ask()
        assert study.user_attrs == {"note": "from a dashboard"}
    assert len(other.trials) == 2


def test_a_writer_killed_inside_a_transaction_leaves_no_part_of_it(tmp_path: Path) -> None:
    path = tmp_path / "study.journal"
    done = subprocess.run([sys.executable, "-c", KILLED_INSIDE, str(path)], capture_output=True, check=False)
    assert done.returncode == -signal.SIGKILL
    assert Path(f"{path}.lock").is_symlink()  # it died with the lock in its hand
    mend(path)
    assert [list(trial.params) for trial in storage(path).get_all_trials(0)] == [["whole"]]
    optuna.load_study(study_name="s", storage=optuna.storages.JournalStorage(AtomicJournal(path))).ask()


def test_a_line_that_was_cut_off_is_dropped(tmp_path: Path) -> None:
    path = tmp_path / "study.journal"
    optuna.create_study(study_name="s", storage=storage(path)).ask()
    whole = path.read_bytes()
    path.write_bytes(whole + b'{"op_code":4,"work')
    mend(path)
    assert path.read_bytes() == whole


def test_damage_in_the_middle_is_told_with_its_line(tmp_path: Path) -> None:
    path = tmp_path / "study.journal"
    optuna.create_study(study_name="s", storage=storage(path)).ask()
    first, *rest = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(first + b"\x00\x00\n" + b"".join(rest))
    with pytest.raises(ConfigError, match=r"study\.journal:2: every line must be JSON"):
        mend(path)


def test_a_journal_that_does_not_exist_yet_needs_no_mending(tmp_path: Path) -> None:
    mend(tmp_path / "study.journal")
    assert list(tmp_path.iterdir()) == []


def test_lines_are_optunas_own(tmp_path: Path) -> None:
    path = tmp_path / "study.journal"
    journal = AtomicJournal(path)
    with journal.transaction():
        optuna.create_study(study_name="s", storage=optuna.storages.JournalStorage(journal)).ask()
    assert all("op_code" in json.loads(line) for line in path.read_text().splitlines())


def test_a_transaction_that_the_disk_has_no_room_for_leaves_nothing(tmp_path: Path) -> None:
    """Here a file that may not grow by more than a few bytes: the first of them are written."""
    path = tmp_path / "study.journal"
    journal = AtomicJournal(path)
    study = optuna.create_study(study_name="s", storage=optuna.storages.JournalStorage(journal))
    before, limits = path.read_bytes(), resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (len(before) + 50, limits[1]))
    try:
        with pytest.raises(OSError, match=r"No space left|too large"), journal.transaction():
            study.ask().suggest_float("x", 0, 1)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert path.read_bytes() == before


def test_only_reports_that_end_no_trial_are_left_to_the_systems_cache(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    journal = AtomicJournal(tmp_path / "study.journal")
    study = optuna.create_study(study_name="s", storage=optuna.storages.JournalStorage(journal))
    synced: list[int] = []
    monkeypatch.setattr(os, "fsync", lambda descriptor: synced.append(descriptor))
    with journal.transaction():
        trial = study.ask()
    assert len(synced) == 1
    with journal.transaction():
        trial.report(0.5, 1)
    assert len(synced) == 1
    with journal.transaction():
        trial.report(0.6, 2)
        study.tell(trial, 0.6)
    assert len(synced) == 2


def test_reading_goes_on_where_it_was(tmp_path: Path) -> None:
    """The reader knows where the last line that we wrote ends, so it never reads the file from its start again."""
    path = tmp_path / "study.journal"
    journal = AtomicJournal(path)
    study = optuna.create_study(study_name="s", storage=optuna.storages.JournalStorage(journal))
    for _ in range(3):
        with journal.transaction():
            study.ask().suggest_float("x", 0, 1)
    lines = path.read_bytes().splitlines(keepends=True)
    assert journal._log_number_offset[len(lines)] == path.stat().st_size
    assert list(journal._log_number_offset) == [0, len(lines)]


def test_a_study_that_is_just_begun_has_no_trials_yet(tmp_path: Path) -> None:
    """`mtlsearch leaderboard` may look at any moment, also before the file, the study or the first trial is there."""
    path = tmp_path / "study.journal"
    assert read_records(path) == []
    path.touch()
    assert read_records(path) == []
    optuna.create_study(study_name="s", storage=storage(path))
    assert read_records(path) == []


def test_ctrl_c_in_the_middle_of_letting_go_stays_ctrl_c(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Optuna's lock then fails over its own clean-up, which would be the error of the whole search."""
    journal = AtomicJournal(tmp_path / "study.journal")
    unlink = os.unlink

    def interrupted(path: str) -> None:
        unlink(path)
        if str(path).endswith(".rename"):
            monkeypatch.setattr(os, "unlink", unlink)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt), journal.transaction():
        monkeypatch.setattr(os, "unlink", interrupted)
