"""Batches of sampled tasks: whose labels they have, which rows, as many as always, alike on all ranks and after a stop.

Axes: N rows, K tasks, L label columns.
"""

from __future__ import annotations

import ast
import os
import socket
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest_train import (
    CPU,
    SEQUENCE_TASKS,
    TASKS,
    learnable,
    learnable_sequences,
    order,
    schema,
    sequence_splits,
    store_of,
    table_splits,
)
from pydantic import TypeAdapter

from mtlsearch.balancing import Losses, build_balancer
from mtlsearch.config import SamplingConfig, Task, UniformConfig
from mtlsearch.data import DataSchema
from mtlsearch.data.columns import SplitName
from mtlsearch.data.schema import SplitCounts
from mtlsearch.data.split import Split
from mtlsearch.errors import TrialFailed
from mtlsearch.models import build_model
from mtlsearch.train import TensorData, World
from mtlsearch.train.batch import Batch
from mtlsearch.train.batching import Sampling
from mtlsearch.train.evaluate import evaluate
from mtlsearch.train.losses import BatchLosses, LossTable
from mtlsearch.train.sampling import build_sampling
from mtlsearch.train.step import train_step
from mtlsearch.train.strata import rarest, stratified

ROWS: dict[SplitName, int] = {"train": 515, "validation": 40, "test": 40}
REFERENCES = {task.name: 0.5 for task in (*TASKS, *SEQUENCE_TASKS)}
KINDS: dict[str, dict[str, Any]] = {
    "joint": {"kind": "joint"},
    "uniform": {"kind": "uniform"},
    "proportional": {"kind": "proportional", "tau": 0.5},
    "stratified": {"kind": "stratified", "share": 0.4},
    "autosem": {"kind": "autosem"},
    "doremi": {"kind": "doremi", "every": 3},
}
ONE_TASK = ("uniform", "proportional", "autosem", "doremi")


def config(kind: str, **changes: Any) -> SamplingConfig:
    found: SamplingConfig = TypeAdapter(SamplingConfig).validate_python(KINDS[kind] | changes)
    return found


def made(kind: str, data: TensorData, world: World | None = None, **changes: Any) -> Sampling:
    return build_sampling(config(kind, **changes), data, 17, world or World(), REFERENCES)


def epoch(sampling: Sampling, number: int = 1, skip: int = 0, batch_size: int = 64) -> list[Batch]:
    """An epoch's batches; each step loses what its number says."""
    batches = []
    generator = torch.Generator().manual_seed(100 + number)
    for step, batch in enumerate(sampling.epoch(number, generator, batch_size, skip=skip), start=skip):
        batches.append(batch)
        sampling.observe(losses_of(batch, 0.1 * (step % 11)))
    return batches


def losses_of(batch: Batch, value: float) -> Losses:
    """Of a task more than of the one before it."""
    present_k = (~batch.labels_PL.isnan()).any(0)
    if len(present_k) == 6:  # SEQUENCE_TASKS, one of which has two labels
        present_k = torch.cat([present_k[:3], present_k[3:5].any()[None], present_k[5:]])
    return Losses(torch.where(present_k, value * torch.arange(1.0, len(present_k) + 1), 0.0), {}, present_k)


def streamed(folder: Path, whole: DataSchema, splits: dict[SplitName, Split], window_bytes: int = 8_000) -> TensorData:
    """In windows of some hundred rows; the schema has counts, as a real one has."""
    counted = whole.model_copy(update={"splits": (counts_of(whole, splits["train"]),)})
    return TensorData.load(store_of(folder, counted, splits), CPU, "stream", window_bytes=window_bytes)


def counts_of(whole: DataSchema, split: Split) -> SplitCounts:
    steps_mj = np.zeros((0, 1)) if split.steps is None else split.steps.labels_MJ
    columns = {False: iter(split.labels_NL.T), True: iter(steps_mj.T)}
    missing = []
    for task in whole.tasks:
        labels = np.stack([next(columns[task.per_step]) for _ in range(task.num_labels)])
        missing.append(int(np.isnan(labels).all(0).sum()))
    return SplitCounts(
        name="train", num_rows=split.num_rows, num_steps=len(steps_mj), missing=tuple(missing), frequencies=()
    )


def firsts(batch: Batch) -> list[float]:
    """The first input of every row: no two rows have the same."""
    values: list[float] = batch.inputs.numeric_BF[:, 0].tolist()
    return values


def tasks_of(batch: Batch, data: TensorData) -> list[str]:
    """Tasks of which the batch has a label."""
    there_L = (~batch.labels_PL.isnan()).any(0).tolist()
    return list(dict.fromkeys(c.task.name for c, there in zip(data.targets.columns, there_L, strict=True) if there))


@pytest.fixture(params=["table", "sequences", "streamed table", "streamed sequences"])
def data(request: pytest.FixtureRequest, tmp_path: Path) -> TensorData:
    """Rows with labels that are missing here and there."""
    match request.param:
        case "table":
            return learnable(ROWS)
        case "sequences":
            return learnable_sequences(ROWS)
        case "streamed table":
            return streamed(tmp_path, schema(TASKS), table_splits(ROWS))
        case _:
            return streamed(tmp_path, schema(SEQUENCE_TASKS), sequence_splits(ROWS))


def test_joint_is_the_data_s_own_epoch_to_the_bit(data: TensorData) -> None:
    expected = list(data.epoch(torch.Generator().manual_seed(101), 64, World()))
    found = epoch(made("joint", data))
    assert len(found) == len(expected)
    for ours, theirs in zip(found, expected, strict=True):
        assert torch.equal(ours.labels_PL.nan_to_num(7), theirs.labels_PL.nan_to_num(7))
        assert torch.equal(ours.inputs.numeric_BF, theirs.inputs.numeric_BF)
    assert made("joint", data).state_dict() == {}


@pytest.mark.parametrize("kind", ONE_TASK)
def test_a_batch_has_labels_of_one_task_and_only_rows_that_have_one(data: TensorData, kind: str) -> None:
    seen: Counter[str] = Counter()
    sampling = made(kind, data)
    for number in range(1, 5):
        for batch in epoch(sampling, number):
            (name,) = tasks_of(batch, data)
            seen[name] += 1
            row_P = torch.arange(batch.num_rows) if batch.row_P is None else batch.row_P
            assert set(row_P[(~batch.labels_PL.isnan()).any(1)].tolist()) == set(range(batch.num_rows))
            assert batch.num_rows <= 64
    assert set(seen) == {task.name for task in data.tasks}


def test_labels_are_the_row_s_own(data: TensorData) -> None:
    """Beside those of the other tasks, nothing of a row is changed."""
    whole = {}
    for batch in data.ordered("train", 64, World()):
        for b, first in enumerate(firsts(batch)):
            whole[first] = batch.labels_PL[[b] if batch.row_P is None else batch.row_P == b]
    for batch in epoch(made("uniform", data)):
        there_L = (~batch.labels_PL.isnan()).any(0)
        for b, first in enumerate(firsts(batch)):
            ours = batch.labels_PL[[b] if batch.row_P is None else batch.row_P == b][:, there_L]
            assert torch.equal(ours.nan_to_num(7), whole[first][:, there_L].nan_to_num(7))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("make", [learnable, learnable_sequences])
@pytest.mark.parametrize(("rows", "batch_size"), [(515, 64), (512, 64), (40, 64), (515, 7)])
def test_an_epoch_has_as_many_steps_as_joint_has(
    kind: str, make: Callable[..., TensorData], rows: int, batch_size: int
) -> None:
    data = make(ROWS | {"train": rows})
    steps = {len(epoch(made(each, data), batch_size=batch_size)) for each in ("joint", kind)}
    assert len(steps) == 1


@pytest.mark.parametrize("make", [learnable, learnable_sequences])
def test_a_pass_has_every_labelled_row_once_before_one_comes_again(make: Callable[..., TensorData]) -> None:
    data = make(ROWS)
    name = data.tasks[0].name
    labelled = int(data.targets.labelled(data.feed.whole, data.tasks[0]).sum())  # type: ignore[arg-type]
    among = [batch for batch in epoch(made("uniform", data), batch_size=5) if tasks_of(batch, data) == [name]]
    mine = [row for batch in among for row in firsts(batch)]
    alone = made("uniform", data.only((name,)))
    rows = [row for batch in epoch(alone, batch_size=5) for row in firsts(batch)]
    assert len(set(rows)) == labelled
    assert len(set(rows[:labelled])) == labelled
    assert len(set(rows[labelled : 2 * labelled])) == len(rows[labelled : 2 * labelled]) > 0
    assert rows[labelled:] != rows[: len(rows) - labelled]
    assert len(set(mine)) == len(mine)  # a third of the steps is less than a pass


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "joint"])
@pytest.mark.parametrize("size", [2, 3])
def test_ranks_have_the_rows_of_one_rank(data: TensorData, kind: str, size: int) -> None:
    """No rank asks another: the same task, and disjoint rows."""
    if kind == "doremi":  # its weights come from losses of all ranks
        changes: dict[str, Any] = {"every": 10_000}
    else:
        changes = {}
    generators = [torch.Generator().manual_seed(5) for _ in range(size + 1)]
    whole = list(made(kind, data, **changes).epoch(1, generators[0], 64))
    dealt = [
        list(made(kind, data, World(rank, size), **changes).epoch(1, generators[rank + 1], 64)) for rank in range(size)
    ]
    assert {len(batches) for batches in dealt} == {len(whole)}
    for joint, *shares in zip(whole, *dealt, strict=True):
        assert sorted(firsts(joint)) == sorted(row for share in shares for row in firsts(share))
        if kind != "stratified":
            assert len({name for share in shares for name in tasks_of(share, data)}) == 1


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("stop", [0, 3, 8])
def test_what_is_left_of_an_epoch_after_a_stop(data: TensorData, kind: str, stop: int) -> None:
    whole, begun, resumed = (made(kind, data) for _ in range(3))
    for each in (whole, begun):
        for number in (1, 2):
            epoch(each, number)
            each.after_epoch(0.5 + 0.1 * number)
    expected = epoch(whole, 3)
    generator = torch.Generator().manual_seed(103)
    with closing(begun.epoch(3, generator, 64)) as batches:
        for step, batch in enumerate(islice(batches, stop)):
            begun.observe(losses_of(batch, 0.1 * (step % 11)))
    resumed.load_state_dict(begun.state_dict())
    left = epoch(resumed, 3, skip=stop)
    assert len(left) == len(expected) - stop
    for ours, theirs in zip(left, expected[stop:], strict=True):
        assert firsts(ours) == firsts(theirs)
        assert torch.equal(ours.labels_PL.nan_to_num(7), theirs.labels_PL.nan_to_num(7))
    assert resumed.metrics() == whole.metrics()
    for each in (whole, resumed):
        each.after_epoch(0.1)
    assert [firsts(batch) for batch in epoch(resumed, 4)] == [firsts(batch) for batch in epoch(whole, 4)]


@pytest.mark.parametrize("kind", KINDS)
def test_state_is_plain(kind: str, tmp_path: Path) -> None:
    sampling = made(kind, learnable(ROWS))
    epoch(sampling)
    sampling.after_epoch(0.4)
    torch.save(sampling.state_dict(), tmp_path / "state.pt")
    made(kind, learnable(ROWS)).load_state_dict(torch.load(tmp_path / "state.pt", weights_only=True))


class TestStratified:
    """Rare classes have a least share of each batch."""

    @pytest.mark.parametrize("share", [0.2, 0.3, 0.6])
    @pytest.mark.parametrize("feed", ["memory", "stream"])
    @pytest.mark.parametrize("tasks", [TASKS, SEQUENCE_TASKS])
    def test_every_batch_has_the_share_and_no_row_twice(
        self, tmp_path: Path, tasks: tuple[Task, ...], feed: str, share: float
    ) -> None:
        """A sixth of the rows have it, as their first input tells."""
        splits = seldom(tasks)
        whole = schema(tasks)
        data = TensorData.of(whole, splits, CPU) if feed == "memory" else streamed(tmp_path, whole, splits, 100_000)
        some = data.only(("gone", "delay") if tasks == TASKS else ("signs", "stay"))
        batches = epoch(made("stratified", some, share=share))
        assert len(batches) == pytest.approx(2000 / 64, abs=4)
        for batch in batches:
            assert len(set(firsts(batch))) == batch.num_rows
            assert sum(value > 1 for value in firsts(batch)) >= share * batch.num_rows

    @pytest.mark.parametrize("rare", [0.0, 1.0])
    def test_a_task_with_two_common_classes_takes_nothing_of_the_share(self, rare: float) -> None:
        """16 of 64 are the share. 2 % have the class, 1 or 0; by itself no batch has so many."""
        data = labelled(late=every(2), gone=np.where(every(50) == 1, rare, 1 - rare))
        sampling = made("stratified", data, share=0.25)
        batches = epoch(sampling)
        assert [counts(batch, "gone", rare, data) for batch in batches[:-1]] == [16] * (len(batches) - 1)
        assert sampling.metrics()["rare"] == {"gone": pytest.approx(0.25, abs=0.01)}

    def test_two_rare_tasks_have_half_of_the_share_each(self) -> None:
        data = labelled(late=every(50), gone=every(50, 7))
        sampling = made("stratified", data, share=0.25)
        for name in ("late", "gone"):
            assert {counts(batch, name, 1, data) for batch in epoch(sampling)[:-1]} == {8}
        assert set(sampling.metrics()["rare"]) == {"late", "gone"}

    def test_a_row_counts_for_every_rare_class_that_it_has(self) -> None:
        data = labelled(late=every(50), gone=every(50))
        for batch in epoch(made("stratified", data, share=0.25))[:-1]:
            assert counts(batch, "late", 1, data) == counts(batch, "gone", 1, data) == 8

    def test_a_class_of_many(self) -> None:
        """70, 28 and 2 % of the rows: the last alone is rarer than the share."""
        group = np.select([every(50) == 1, every(25, 1) == 1, every(4, 2) == 1], [2.0, 1.0, 1.0], 0.0)
        data = labelled(group=group)
        batches = epoch(made("stratified", data, share=0.2))
        assert {counts(batch, "group", 2, data) for batch in batches[:-1]} == {13}

    def test_more_rare_labels_than_rows_of_the_share_take_turns(self) -> None:
        """4 of 16 rows are the share, for 20 labels of which a batch by itself seldom has any."""
        data = labelled(codes=np.stack([every(1000, each) for each in range(20)], axis=1))
        batches = epoch(made("stratified", data, share=0.25), batch_size=16)
        for at in range(0, len(batches) - 5, 5):
            five = torch.stack([(batch.labels_PL == 1).sum(0) for batch in batches[at : at + 5]])
            assert five.sum(1).ge(4).all()
            assert five.sum(0).ge(1).all()

    @pytest.mark.parametrize(
        ("rates", "order", "part"),
        [
            ((0.03,), [0], 0.2),
            ((0.03, 0.02), [1, 0], 0.1),
            ((0.15, 0.03), [1], 0.15),  # the first has its part, and stays the more frequent
            ((0.1,) * 10 + (0.03,), [10], 0.1),
            ((0.001,) * 4, [0, 1, 2, 3], 0.05),
            ((), [], 0.2),
        ],
    )
    def test_what_the_share_is_for(self, rates: tuple[float, ...], order: list[int], part: float) -> None:
        assert rarest(rates, 0.2) == (order, pytest.approx(part))

    def test_rows_without_a_rare_class_come_once_at_most(self) -> None:
        data = labelled(late=every(2), gone=every(50))
        seen = Counter(
            first
            for batch in epoch(made("stratified", data, share=0.25))
            for first, is_rare in zip(firsts(batch), (batch.labels_PL[:, 1] == 1).tolist(), strict=True)
            if not is_rare
        )
        assert set(seen.values()) == {1}

    def test_rare_rows_lie_anywhere_in_a_batch(self) -> None:
        """Not all in the first rows, which a balancer may set apart from the others."""
        data = labelled(gone=every(50))
        batches = epoch(made("stratified", data, share=0.25))[:-1]
        first_half = sum(int((batch.labels_PL[:32] == 1).sum()) for batch in batches)
        assert first_half / (16 * len(batches)) == pytest.approx(0.5, abs=0.1)

    def test_long_sequences_are_cut_in_pieces_with_a_like_part_of_the_rare(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("mtlsearch.train.strata.MOST_STEPS", 200)
        has_n1 = torch.from_numpy(every(50) == 1)[:, None]
        batches = stratified(has_n1, 0.25, torch.full((2000,), 10), 64, 1, torch.Generator().manual_seed(1))
        pieces = [rows_b for rows_b, _ in zip(batches, range(100), strict=False)]
        assert {len(piece) for piece in pieces} == {16}
        assert {int(has_n1[piece].sum()) for piece in pieces} == {4}

    @pytest.mark.parametrize("share", [0.01, 0.4])
    def test_without_a_rare_class_batches_are_any_and_the_record_says_so(self, share: float) -> None:
        data = TensorData.of(schema(TASKS), seldom(TASKS), CPU).only(("gone",) if share == 0.01 else ("delay",))
        sampling = made("stratified", data, share=share)
        rows = [row for batch in epoch(sampling) for row in firsts(batch)]
        assert len(set(rows)) == len(rows) == 2000
        assert sampling.metrics() == {"rare": {}}

    def test_few_rare_rows_come_in_every_batch(self) -> None:
        splits = table_splits(ROWS)
        labels = splits["train"].labels_NL.copy()
        labels[:, 2] = 0
        labels[[7, 300], 2] = 1
        splits["train"] = replace(splits["train"], labels_NL=labels)
        data = TensorData.of(schema(TASKS), splits, CPU).only(("gone",))
        batches = epoch(made("stratified", data, share=0.5))
        assert {int((batch.labels_PL == 1).sum()) for batch in batches} == {2}

    @pytest.mark.parametrize("value", [0.0, 1.0, np.nan])
    def test_without_rare_rows_a_batch_is_any(self, value: float) -> None:
        splits = table_splits(ROWS)
        labels = splits["train"].labels_NL.copy()
        labels[:, 2] = value
        splits["train"] = replace(splits["train"], labels_NL=labels)
        data = TensorData.of(schema(TASKS), splits, CPU).only(("gone",))
        batches = epoch(made("stratified", data))
        assert [batch.num_rows for batch in batches[:-1]] == [64] * (len(batches) - 1)


KNOWN = {
    "late": Task(name="late", kind="binary"),
    "gone": Task(name="gone", kind="binary"),
    "group": Task(name="group", kind="multiclass", classes=("x", "y", "z")),
    "codes": Task(name="codes", kind="multilabel", classes=tuple(f"c{index}" for index in range(20))),
}


def every(nth: int, start: int = 0) -> np.ndarray[Any, np.dtype[np.float32]]:
    """float32 [2000]: 1 in one of so many rows, else 0."""
    return (np.arange(2000) % nth == start).astype(np.float32)


def labelled(**labels: np.ndarray[Any, np.dtype[Any]]) -> TensorData:
    """2000 training rows with these labels of `KNOWN`."""
    tasks = tuple(KNOWN[name] for name in labels)
    columns_nl = np.concatenate([each.reshape(2000, -1) for each in labels.values()], axis=1).astype(np.float32)
    splits = table_splits({"train": 2000, "validation": 10, "test": 10})
    splits = {name: replace(each, labels_NL=columns_nl[: each.num_rows]) for name, each in splits.items()}
    return TensorData.of(schema(tasks), splits, CPU)


def counts(batch: Batch, task: str, value: float, data: TensorData) -> int:
    """Rows with the class."""
    column = next(at for at, each in enumerate(data.targets.columns) if each.task.name == task)
    return int((batch.labels_PL[:, column] == value).sum())


def seldom(tasks: tuple[Task, ...]) -> dict[SplitName, Split]:
    """`gone`, or one of `signs`, is given where the first input is above 1."""
    rows: dict[SplitName, int] = {"train": 2000, "validation": 10, "test": 10}
    splits = table_splits(rows) if tasks == TASKS else sequence_splits(rows)
    labels = splits["train"].labels_NL.copy()
    labels[:, 2] = splits["train"].numeric_NF[:, 0] > 1
    if tasks == SEQUENCE_TASKS:
        labels[:, 3] = np.nan
    splits["train"] = replace(splits["train"], labels_NL=labels)
    return splits


def disjoint() -> dict[SplitName, Split]:
    """Two files one behind the other: the first has labels of `late`, the second those of `delay`, nobody `gone`'s."""
    splits = table_splits({"train": 900, "validation": 40, "test": 40})
    labels = np.nan_to_num(splits["train"].labels_NL, nan=1.0)
    labels[300:, 0] = labels[:300, 1] = labels[:, 2] = np.nan
    splits["train"] = replace(splits["train"], labels_NL=labels)
    return splits


@pytest.mark.parametrize("kind", ONE_TASK)
@pytest.mark.parametrize("feed", ["memory", "stream"])
def test_tasks_whose_labels_are_in_different_files(tmp_path: Path, kind: str, feed: str) -> None:
    splits = disjoint()
    memory = TensorData.of(schema(TASKS), splits, CPU)
    data = memory if feed == "memory" else streamed(tmp_path, schema(TASKS), splits)
    first_file = set(splits["train"].numeric_NF[:300, 0].tolist())
    seen: Counter[str] = Counter()
    sampling = made(kind, data)
    for number in range(1, 9):
        for batch in epoch(sampling, number):
            (name,) = tasks_of(batch, data)
            seen[name] += 1
            assert set(firsts(batch)) <= first_file if name == "late" else not set(firsts(batch)) & first_file
    assert set(seen) == {"late", "delay"}
    if kind == "uniform":
        assert seen["late"] / seen.total() == pytest.approx(1 / 2, abs=0.13)


def test_proportional_follows_the_rows(tmp_path: Path) -> None:
    for data in (TensorData.of(schema(TASKS), disjoint(), CPU), streamed(tmp_path, schema(TASKS), disjoint())):
        assert made("proportional", data, tau=1.0).metrics()["weight"] == pytest.approx(
            {"late": 1 / 3, "delay": 2 / 3, "gone": 0.0}
        )


def test_nothing_to_serve_is_said() -> None:
    splits = table_splits(ROWS)
    splits["train"] = replace(splits["train"], labels_NL=np.full_like(splits["train"].labels_NL, np.nan))
    with pytest.raises(TrialFailed, match="no task has a label in as many training rows"):
        epoch(made("uniform", TensorData.of(schema(TASKS), splits, CPU)))


def test_the_bandit_hears_whether_the_objective_rose() -> None:
    sampling = made("autosem", learnable(ROWS), decay=1.0, drop_below=0.0)
    epoch(sampling, 1)
    sampling.after_epoch(0.5)  # nothing to compare with
    assert sampling.state_dict()["alpha"] == sampling.state_dict()["beta"] == [1.0] * 3
    for number, (objective, alpha, beta) in enumerate([(0.6, 4.0, 3.0), (0.6, 4.0, 4.0), (0.4, 4.0, 5.0)], start=2):
        epoch(sampling, number)
        sampling.after_epoch(objective)
        state = sampling.state_dict()
        assert (sum(state["alpha"]), sum(state["beta"])) == pytest.approx((alpha, beta))


def test_dropped_tasks_leave_the_record() -> None:
    sampling = made("autosem", learnable(ROWS), decay=1.0, drop_below=0.49)
    for number in range(1, 12):
        epoch(sampling, number)
        sampling.after_epoch(-float(number))
    metrics = sampling.metrics()
    assert len(metrics["share"]) == 1
    assert list(metrics["weight"].values()) == [1.0]


def test_doremi_serves_what_exceeds_its_reference() -> None:
    """`losses_of` makes the third task lose three times what the first loses."""
    sampling = made("doremi", learnable(ROWS))
    for number in range(1, 8):
        epoch(sampling, number)
    weight = sampling.metrics()["mean_weight"]
    assert weight["gone"] > weight["delay"] > weight["late"]
    assert sum(weight.values()) == pytest.approx(1.0)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("tasks", [TASKS, SEQUENCE_TASKS])
def test_a_model_learns_with_each(kind: str, tasks: tuple[Task, ...]) -> None:
    data = learnable() if tasks == TASKS else learnable_sequences()
    model, world = build_model(order(tasks=tasks).config.model, data.input_spec, tasks, seed=3), World()
    table, wrapped, balancer = LossTable(tasks, CPU), world.wrap(model), build_balancer(UniformConfig(), tasks, 1)
    optimizer, sampling = torch.optim.Adam(model.parameters(), lr=0.01), made(kind, data)
    before = mean_loss(data, wrapped, table)
    for number in range(1, 4):
        for batch in sampling.epoch(number, torch.Generator().manual_seed(number), 64):
            step = train_step(BatchLosses(wrapped, batch, table, world), balancer, optimizer, 1.0)
            sampling.observe(step.balanced.losses)
    assert mean_loss(data, wrapped, table) < before


@torch.no_grad()
def mean_loss(data: TensorData, wrapped: torch.nn.Module, table: LossTable) -> float:
    (batch,) = data.ordered("train", 10_000, World())
    return float(BatchLosses(wrapped, batch, table, World())().loss_K.mean())


def test_leaving_a_streamed_epoch_ends_its_thread(tmp_path: Path) -> None:
    data = streamed(tmp_path, schema(TASKS), table_splits({"train": 2003, "validation": 10, "test": 10}))

    def readers() -> list[threading.Thread]:
        return [thread for thread in threading.enumerate() if thread.name.startswith("mtlsearch-read")]

    for kind in KINDS:
        with closing(made(kind, data).epoch(1, torch.Generator(), 64)) as batches:
            next(batches)
            assert readers(), kind
        assert not readers(), kind


@pytest.mark.parametrize("value", [0.0, 1.0])
@pytest.mark.parametrize("kind", KINDS)
def test_a_task_with_one_class(kind: str, value: float) -> None:
    """Its loss is finite and is learned from; where validation has one class only, what ranks is undefined, not 0."""
    splits = table_splits(ROWS)
    for name in ("train", "validation"):
        labels = splits[name].labels_NL.copy()  # type: ignore[index]
        labels[:, 2] = value
        splits[name] = replace(splits[name], labels_NL=labels)  # type: ignore[index]
    data, world = TensorData.of(schema(TASKS), splits, CPU), World()
    model, table = build_model(order().config.model, data.input_spec, TASKS, seed=3), LossTable(TASKS, CPU)
    for batch in epoch(made(kind, data)):
        losses = BatchLosses(world.wrap(model), batch, table, world)()
        assert losses.loss_K.isfinite().all()
    scores = evaluate(model, data, "validation", world)
    assert scores is not None
    assert scores["gone"] == {"auroc": None, "average_precision": None}
    assert scores["late"]["auroc"] is not None


RANK = """
import sys
import torch
from test_sampling import learned
from mtlsearch.train import World
rank = int(sys.argv[1])
world = World.join(rank, 2, f"tcp://127.0.0.1:{sys.argv[2]}", torch.device("cpu"), 60.0)
print([learned(kind, world) for kind in ("autosem", "doremi")])
torch.distributed.destroy_process_group()
"""


def learned(kind: str, world: World) -> dict[str, dict[str, float]]:
    """What is said after three epochs; rank 0 alone knows the objective, and a loss is the mean over ranks."""
    sampling = made(kind, learnable(ROWS), world)
    for number in range(1, 4):
        for step, batch in enumerate(sampling.epoch(number, torch.Generator().manual_seed(number), 64)):
            whole = losses_of(batch, 0.1 * (step % 11))
            part = 1.0 if world.size == 1 else (0.5, 1.5)[world.rank]  # their mean is the whole
            sampling.observe(whole._replace(loss_K=part * whole.loss_K))
        sampling.after_epoch((0.5, 0.4, 0.6)[number - 1] if world.is_main else None)
    return sampling.metrics()


@pytest.mark.slow
def test_two_processes_learn_what_one_learns() -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = str(probe.getsockname()[1])
    here = Path(__file__).parent
    ranks = [
        subprocess.Popen(
            [sys.executable, "-c", RANK, str(rank), port],
            cwd=here,
            env=os.environ | {"PYTHONPATH": f"{here}{os.pathsep}{here.parent}"},
            stdout=subprocess.PIPE,
            text=True,
        )
        for rank in range(2)
    ]
    told = [ast.literal_eval(rank.communicate(timeout=120)[0]) for rank in ranks]
    alone = [learned(kind, World()) for kind in ("autosem", "doremi")]
    assert told[0] == told[1]
    for ours, theirs in zip(alone, told[0], strict=True):
        for name, values in ours.items():
            assert values == pytest.approx(theirs[name], abs=1e-6), name
