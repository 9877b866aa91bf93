"""A trial's checkpoints: which are kept, what a damaged one costs, and why an owner that was cut off does no harm."""

from __future__ import annotations

import errno
import hashlib
import io
import os
import random
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest_train import CPU, TASKS, best_state, last_state, order, places, schema, table_splits, trained

from mtlsearch.errors import ConfigError, TrialFailed
from mtlsearch.folder import TrialFolder
from mtlsearch.folder.files import FolderFiles
from mtlsearch.train import Checkpoints, TensorData, World, fit, score_test
from mtlsearch.train.checkpoint import Checkpoint, Place, decode


@pytest.fixture
def files(tmp_path: Path) -> FolderFiles:
    """Where one trial's checkpoints are."""
    return FolderFiles(tmp_path / "checkpoint")


def state(epoch: int, best: int | None = None, step: int = 0, owner: int = 1) -> Checkpoint:
    """After so many epochs, and steps of the next; `owner` tells apart who wrote it."""
    return Checkpoint(
        epoch=epoch,
        model={"weight": torch.full((64,), float(epoch) + step / 1000), "owner": torch.tensor(owner)},
        optimizer={},
        balancer={},
        best_objective=0.5,
        best_epoch=epoch if best is None else best,
        sampling={},
        measured="",
        under_way={"num_steps": step} if step else None,
    )


def kept(files: FolderFiles) -> list[tuple[int, int, int]]:
    """(generation, epoch, step) of the files that are there."""
    return sorted(tuple(place) for name in files.names() if (place := Place.parse(name)) is not None)


def seen(files: FolderFiles) -> tuple[int, int]:
    """(epoch, owner) of the state that a trial would go on from."""
    newest = Checkpoints(files).newest()
    assert newest is not None
    found = decode(newest, CPU)
    return found.epoch, int(found.model["owner"])


# Names -----------------------------------------------------------------------------------------------------------


def test_a_name_says_who_wrote_it_and_when_and_names_sort_as_they_count() -> None:
    assert Place(12, 3, 500).name == "0000000012-00003-00000500.pt"
    assert Place.parse("0000000012-00003-00000500.pt") == (12, 3, 500)
    rising = [Place(1, 9, 0), Place(2, 1, 0), Place(2, 1, 500), Place(2, 2, 0), Place(10, 0, 500)]
    assert sorted(rising) == rising
    assert sorted(place.name for place in rising) == [place.name for place in rising]


@pytest.mark.parametrize(
    "name", ["last.pt", "1-2-3.pt", "0000000012-00003-00000500.pt.1", ".0000000012-00003-00000500.pt"]
)
def test_other_files_are_no_checkpoints(files: FolderFiles, name: str) -> None:
    assert Place.parse(name) is None
    files.write(name, b"anything")
    assert Checkpoints(files).newest() is None
    assert Checkpoints(files).best(CPU) is None


# What is kept ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("best", "left"),
    [(2, [2, 5, 6]), (5, [5, 6]), (6, [5, 6]), (1, [1, 5, 6])],
)
def test_the_last_two_and_the_best_are_kept(files: FolderFiles, best: int, left: list[int]) -> None:
    checkpoints = Checkpoints(files, 7)
    for epoch in range(1, 7):
        checkpoints.save(state(epoch, min(epoch, best)))
    assert kept(files) == [(7, epoch, 0) for epoch in left]
    found = Checkpoints(files).best(CPU)
    assert found is not None
    assert found.epoch == best


def test_in_the_middle_of_an_epoch_too_and_its_weights_are_never_the_best(files: FolderFiles) -> None:
    checkpoints = Checkpoints(files, 7)
    checkpoints.save(state(1))
    for step in (500, 1000, 1500):
        checkpoints.save(state(1, 1, step))
    assert kept(files) == [(7, 1, 0), (7, 1, 1000), (7, 1, 1500)]
    newest, best = Checkpoints(files).newest(), Checkpoints(files).best(CPU)
    assert newest is not None
    assert decode(newest, CPU).step == 1500
    assert best is not None
    assert best.under_way is None


def test_in_the_first_epoch_nothing_is_best(files: FolderFiles) -> None:
    Checkpoints(files, 7).save(state(0, 0, 500))
    assert Checkpoints(files).newest() is not None
    assert Checkpoints(files).best(CPU) is None


def test_best_is_the_best_validation_epoch(data: TensorData, folder: TrialFolder) -> None:
    metrics = trained(order(epochs=6, optimizer={"kind": "adamw", "lr": 0.05}), data, folder)
    assert best_state(folder).epoch == max(metrics, key=lambda each: each.objective).epoch
    assert best_state(folder).epoch == last_state(folder).best_epoch
    assert last_state(folder).epoch == 6
    assert {place.epoch for place in places(folder)} == {5, 6, best_state(folder).epoch}


def test_the_test_split_is_scored_with_the_best_weights(folder: TrialFolder) -> None:
    """On a test split that equals validation, the scores are the best epoch's."""
    splits = table_splits()
    data = TensorData.of(schema(TASKS), splits | {"test": splits["validation"]}, CPU)
    metrics = trained(order(epochs=6, optimizer={"kind": "adamw", "lr": 0.05}), data, folder)
    best = max(metrics, key=lambda each: each.objective)
    assert score_test(order(epochs=6), data, Checkpoints(folder.checkpoints), World()) == best.validation


def test_a_trial_without_weights_cannot_be_scored(data: TensorData, folder: TrialFolder) -> None:
    with pytest.raises(TrialFailed, match="trial 3 kept no weights"):
        score_test(order(), data, Checkpoints(folder.checkpoints), World())


class FullFiles(FolderFiles):
    """A disk without room."""

    def write(self, name: str, content: bytes | memoryview) -> None:
        """Fails."""
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_what_cannot_be_written_removes_nothing(files: FolderFiles) -> None:
    checkpoints = Checkpoints(files, 7)
    for epoch in (1, 2, 3):
        checkpoints.save(state(epoch, 1))
    before = kept(files)
    for generation in (7, 8):
        full = Checkpoints(FullFiles(files.path), generation)
        with pytest.raises(OSError, match="No space left"):
            full.save(state(4))
    with pytest.raises(OSError, match="No space left"):
        Checkpoints(FullFiles(files.path), 8).take_over()
    assert kept(files) == before


# Damage ----------------------------------------------------------------------------------------------------------


def cut(files: FolderFiles, place: Place, size: int) -> None:
    """As a machine that lost power leaves a file."""
    content = files.read(place.name)
    assert content is not None
    files.write(place.name, content[:size])


@pytest.mark.parametrize("size", [0, 1, 100, 1000, -1])
def test_of_a_file_that_was_cut_off_the_one_before_is_used_and_that_is_said(
    files: FolderFiles, capsys: pytest.CaptureFixture[str], size: int
) -> None:
    checkpoints = Checkpoints(files, 7)
    for epoch in (1, 2, 3):
        checkpoints.save(state(epoch, 1))
    cut(files, Place(7, 3, 0), size)
    assert seen(files) == (2, 1)
    (said,) = capsys.readouterr().err.splitlines()
    assert said.startswith("mtlsearch: checkpoint 0000000007-00003-00000000.pt is damaged and passed over: ")


def test_a_trial_whose_newest_file_was_cut_off_ends_as_if_it_had_not_been(
    data: TensorData, folder: TrialFolder, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """It trains that epoch again; its line is there already, and stays the only one."""
    trial = order(epochs=4)
    undisturbed = TrialFolder(tmp_path / "undisturbed")
    trained(trial, data, undisturbed)
    trained(trial, data, folder, epochs=3)
    cut(folder.checkpoints, places(folder)[-1], 5000)
    assert [each.epoch for each in trained(trial, data, folder)] == [4]
    assert [each.epoch for each in folder.epochs()] == [1, 2, 3, 4]
    assert [each.objective for each in folder.epochs()] == [each.objective for each in undisturbed.epochs()]
    assert "00003-00000000.pt is damaged" in capsys.readouterr().err


def test_where_all_are_damaged_readers_are_told_and_a_trial_begins_again(
    data: TensorData, folder: TrialFolder, capsys: pytest.CaptureFixture[str]
) -> None:
    trial = order(epochs=2)
    expected = trained(trial, data, folder)
    for place in places(folder):
        cut(folder.checkpoints, place, 5000)
    with pytest.raises(ConfigError) as refused:
        Checkpoints(folder.checkpoints).best(CPU)
    assert str(refused.value) == (
        "a checkpoint must be what the trial wrote, but 0000000001-00002-00000000.pt, 0000000001-00001-00000000.pt are "
        "damaged. Restore it from a copy."
    )
    assert trained(trial, data, folder) == []  # the lines were there
    assert folder.epochs() == expected
    assert last_state(folder).epoch == 2
    assert capsys.readouterr().err.count("passed over") == 4


def test_a_best_one_that_is_damaged_is_not_replaced_by_a_worse(files: FolderFiles) -> None:
    checkpoints = Checkpoints(files, 7)
    for epoch in (1, 2, 3):
        checkpoints.save(state(epoch, 1))
    cut(files, Place(7, 1, 0), 300)
    assert seen(files) == (3, 1)
    with pytest.raises(ConfigError, match="the checkpoint of the best epoch, 1, must be there, but is missing or dam"):
        Checkpoints(files).best(CPU)


def test_whatever_is_damaged_in_whatever_way_is_known_to_be() -> None:
    """Cut, overwritten, bits turned: torch alone takes some of these for weights."""
    draw, whole = random.Random(0), encoded(state(3))
    for _ in range(600):
        content = bytearray(whole)
        match draw.randrange(4):
            case 0:
                del content[draw.randrange(len(content)) :]
            case 1:
                content[draw.randrange(len(content))] ^= 1 << draw.randrange(8)
            case 2:
                start = draw.randrange(len(content))
                content[start : start + 64] = draw.randbytes(min(64, len(content) - start))
            case _:
                content = bytearray(draw.randbytes(draw.randrange(2000)))
        with pytest.raises(ValueError, match="its bytes are not those that were written"):
            decode(bytes(content), CPU)


def encoded(whole: Checkpoint) -> bytes:
    """A file's content."""

    class Kept(FolderFiles):
        content = b""

        def write(self, name: str, content: bytes | memoryview) -> None:
            Kept.content = bytes(content)

    Checkpoints(Kept(Path()), 1).save(whole)
    return Kept.content


class Exploit:
    """Says so when it is unpickled."""

    ran = False

    def __reduce__(self) -> Any:
        return (_run, ())


def _run() -> None:
    Exploit.ran = True


def test_nothing_is_unpickled(files: FolderFiles, capsys: pytest.CaptureFixture[str]) -> None:
    """A file that would run code when unpickled is refused, for going on and for use."""
    checkpoints = Checkpoints(files, 7)
    checkpoints.save(state(1))
    buffer = io.BytesIO()
    torch.save({"epoch": Exploit()}, buffer)
    files.write(Place(7, 2, 0).name, buffer.getvalue() + hashlib.sha256(buffer.getvalue()).digest())
    assert seen(files) == (1, 1)
    assert "00002-00000000.pt is damaged and passed over: Weights only load failed" in capsys.readouterr().err
    files.remove(Place(7, 1, 0).name)
    with pytest.raises(ConfigError, match="must be what the trial wrote"):
        Checkpoints(files).best(CPU)
    assert not Exploit.ran


# Owners ----------------------------------------------------------------------------------------------------------


def test_whoever_takes_over_has_the_newest_and_the_best_under_its_own_name(files: FolderFiles) -> None:
    before = Checkpoints(files, 1)
    for epoch in (1, 2, 3, 4):
        before.save(state(epoch, min(epoch, 2)))
    newest = Checkpoints(files, 5).take_over()
    assert newest is not None
    assert decode(newest, CPU).epoch == 4
    assert kept(files) == [(5, 2, 0), (5, 4, 0)]


def test_in_the_middle_of_an_epoch_whoever_takes_over_has_the_best_too(files: FolderFiles) -> None:
    before = Checkpoints(files, 1)
    before.save(state(1))
    before.save(state(1, 1, 500))
    after = Checkpoints(files, 5)
    after.take_over()
    assert kept(files) == [(5, 1, 0), (5, 1, 500)]
    after.save(state(1, 1, 1000))
    after.save(state(1, 1, 1500))
    assert kept(files) == [(5, 1, 0), (5, 1, 1000), (5, 1, 1500)]
    after.save(state(2))
    after.save(state(2, 2, 500))
    assert kept(files) == [(5, 2, 0), (5, 2, 500)]


def test_there_is_nothing_to_take_over_when_a_trial_starts(files: FolderFiles) -> None:
    assert Checkpoints(files, 1).take_over() is None
    assert files.names() == []


def test_an_owner_that_was_cut_off_changes_nothing_that_its_successor_or_a_reader_sees(files: FolderFiles) -> None:
    """It goes on for a while, ahead of its successor even, and removes what it thinks is its own."""
    cut_off = Checkpoints(files, 1)
    for epoch in (1, 2, 3):
        cut_off.save(state(epoch, 1))
    successor = Checkpoints(files, 2)
    successor.take_over()
    for epoch in (4, 5, 6):
        cut_off.save(state(epoch, 5 if epoch > 4 else 1, owner=666))
        assert seen(files) == (3, 1)
        best = Checkpoints(files).best(CPU)
        assert best is not None
        assert best.epoch == 1
    successor.save(state(4, 1, owner=2))
    assert seen(files) == (4, 2)
    cut_off.save(state(7, 7, owner=666))
    assert seen(files) == (4, 2)


def test_also_when_the_successor_has_died_and_a_third_takes_over(files: FolderFiles) -> None:
    """The third goes on from the successor's, not from the newer epochs of who was cut off."""
    cut_off = Checkpoints(files, 1)
    cut_off.save(state(1))
    successor = Checkpoints(files, 2)
    successor.take_over()
    cut_off.save(state(2, owner=666))
    cut_off.save(state(3, owner=666))
    successor.save(state(2, owner=2))
    third = Checkpoints(files, 3)
    newest = third.take_over()
    assert newest is not None
    assert (decode(newest, CPU).epoch, int(decode(newest, CPU).model["owner"])) == (2, 2)
    cut_off.save(state(4, owner=666))
    successor.save(state(3, owner=2))
    assert seen(files) == (2, 2)
    third.save(state(3, owner=3))
    assert seen(files) == (3, 3)
    assert Checkpoints(files, 4).take_over() is not None
    assert {generation for generation, _, _ in kept(files)} == {4}


@pytest.mark.parametrize("writes", [0, 1, 2])
def test_a_successor_that_dies_while_it_takes_over_leaves_enough_for_the_next(files: FolderFiles, writes: int) -> None:
    before = Checkpoints(files, 1)
    for epoch in (1, 2, 3):
        before.save(state(epoch, 1))

    class Dies(FolderFiles):
        left = writes

        def write(self, name: str, content: bytes | memoryview) -> None:
            if not self.left:
                raise KeyboardInterrupt
            self.left -= 1
            super().write(name, content)

        def remove(self, name: str) -> None:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        Checkpoints(Dies(files.path), 2).take_over()
    Checkpoints(files, 3).take_over()
    assert kept(files) == [(3, 1, 0), (3, 3, 0)]


def test_a_trial_and_its_cut_off_owner_side_by_side(data: TensorData, folder: TrialFolder, tmp_path: Path) -> None:
    """For real: both train on, in turns; the driver hears of the successor only."""
    trial, undisturbed = order(epochs=5), TrialFolder(tmp_path / "undisturbed")
    expected = [each.objective for each in trained(trial, data, undisturbed)]
    cut_off = fit(trial, data, Checkpoints(folder.checkpoints, 1), World())
    next(cut_off), next(cut_off)
    successor = fit(trial, data, Checkpoints(folder.checkpoints, 2), World())
    told = []
    for _ in range(3):
        report = next(successor)
        assert report is not None
        told.append(report.metrics.objective)
        next(cut_off)
    assert told == expected[1:4]
    third = [each for each in fit(trial, data, Checkpoints(folder.checkpoints, 3), World()) if each is not None]
    assert [each.metrics.objective for each in third] == expected[3:]
    assert best_state(folder).best_objective == best_state(undisturbed).best_objective
