"""Batches of whole splits in memory: every row, its labels scaled; sequences padded, cut and bucketed.

Axes: N rows, R lists of rows.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest_train import (
    CPU,
    MEAN,
    SEQUENCE_TASKS,
    STD,
    TASKS,
    first_batch,
    learnable,
    learnable_sequences,
    schema,
    sequence_splits,
    store_of,
    table_splits,
)

from mtlsearch.train import TensorData, World
from mtlsearch.train import order as order_module
from mtlsearch.train.batch import Batch
from mtlsearch.train.order import bucketed, cuts


def epoch(data: TensorData, batch_size: int = 64, seed: int = 5, world: World | None = None) -> list[Batch]:
    """An epoch's batches."""
    return list(data.epoch(torch.Generator().manual_seed(seed), batch_size, world or World()))


def firsts(batches: list[Batch]) -> list[float]:
    """The first input of every row: no two rows have the same."""
    return [value for batch in batches for value in batch.inputs.numeric_BF[:, 0].tolist()]


def test_an_epoch_has_every_row_once_in_an_order_that_the_generator_decides() -> None:
    data = learnable()
    rows = table_splits()["train"].numeric_NF[:, 0].tolist()
    assert sorted(firsts(epoch(data))) == sorted(rows)
    assert firsts(epoch(data)) == firsts(epoch(data))
    assert firsts(epoch(data)) != firsts(epoch(data, seed=6)) != rows


def test_regressions_are_standardised_and_missing_labels_stay_missing() -> None:
    split, batch = table_splits()["train"], first_batch(learnable(), 100)
    expected = split.labels_NL[:100].copy()
    expected[:, 1] = (expected[:, 1] - MEAN) / STD
    np.testing.assert_allclose(batch.labels_PL.numpy(), expected, rtol=1e-5)
    assert batch.weight_PL is None
    assert batch.row_P is None
    assert batch.num_rows == 100


def test_some_tasks_have_their_own_columns_alone() -> None:
    data = learnable()
    some = data.only(("gone", "delay"))
    assert [task.name for task in some.tasks] == ["delay", "gone"]  # the schema's order
    found, expected = first_batch(some, 50).labels_PL, first_batch(data, 50).labels_PL[:, 1:]
    assert torch.equal(found.nan_to_num(7), expected.nan_to_num(7))
    assert some.widths == (1, 1)


def test_weights_stand_beside_the_labels_of_their_task() -> None:
    split = table_splits(num_weights=1)
    data = TensorData.of(schema(TASKS, weighted=("gone",)), split, CPU)
    weight_pl = first_batch(data, 20).weight_PL
    assert weight_pl is not None
    np.testing.assert_array_equal(weight_pl[:, :2].numpy(), np.ones((20, 2)))
    np.testing.assert_array_equal(weight_pl[:, 2].numpy(), split["train"].weights_NW[:20, 0])
    assert first_batch(data.only(("late",)), 20).weight_PL is None


def test_a_store_on_a_cpu_is_not_copied(tmp_path: Path) -> None:
    """What a batch of neighbouring rows holds is the file's own pages."""
    store = store_of(tmp_path, schema(TASKS), table_splits())
    data = TensorData.load(store, CPU)
    assert data.description.startswith("in memory, ")
    assert data.description.endswith(" mapped")
    mapped = {line.split()[0] for line in Path("/proc/self/maps").read_text().splitlines() if "train.arrow" in line}
    spans = [tuple(int(end, 16) for end in span.split("-")) for span in mapped]
    address = first_batch(data, 10).inputs.numeric_BF.data_ptr()
    assert any(start <= address < end for start, end in spans)


class TestSequences:
    """Steps padded behind their ends, labels where something is predicted."""

    def test_steps_and_their_labels_are_the_sequences_own(self) -> None:
        split, data = sequence_splits()["train"], learnable_sequences()
        assert split.steps is not None
        row_of = {value: row for row, value in enumerate(split.numeric_NF[:, 0].tolist())}
        for batch in epoch(data):
            steps = batch.inputs.steps
            assert steps is not None
            for b, value in enumerate(batch.inputs.numeric_BF[:, 0].tolist()):
                row, length = row_of[value], int(steps.length_B[b])
                span = slice(*split.steps.offset_N[row : row + 2])
                np.testing.assert_array_equal(steps.numeric_BTS[b, :length], split.steps.numeric_MS[span])
                np.testing.assert_array_equal(steps.categorical_BTD[b, :length], split.steps.categorical_MD[span])
                assert not steps.numeric_BTS[b, length:].any()
                assert not steps.categorical_BTD[b, length:].any()
                here = batch.row_P == b
                np.testing.assert_array_equal(batch.labels_PL[here, :1], split.steps.labels_MJ[span])
            assert torch.equal(steps.position_P // steps.numeric_BTS.shape[1], batch.row_P)

    def test_a_label_of_the_whole_sequence_stands_at_its_step_alone(self) -> None:
        """died at step 4 or nowhere, stay and signs at the last, group at step 2 or nowhere."""
        split, batch = sequence_splits()["train"], epoch(learnable_sequences())[0]
        assert split.steps is not None
        steps, row_of = batch.inputs.steps, {v: row for row, v in enumerate(split.numeric_NF[:, 0].tolist())}
        assert steps is not None
        for b, value in enumerate(batch.inputs.numeric_BF[:, 0].tolist()):
            length, labels = int(steps.length_B[b]), split.labels_NL[row_of[value]].copy()
            labels[1] = (labels[1] - MEAN) / STD
            expected = np.full((length, 5), np.nan, np.float32)
            if length > 4:
                expected[4, 0] = labels[0]
            expected[-1, 1:4] = labels[1:4]
            if length > 2:
                expected[2, 4] = labels[4]
            np.testing.assert_allclose(batch.labels_PL[batch.row_P == b, 1:], expected, rtol=1e-5)

    def test_only_steps_that_are_predicted_have_a_prediction(self) -> None:
        """died is predicted at step 4, stay at the last; of a sequence of five steps that is the same one."""
        for batch in epoch(learnable_sequences().only(("died", "stay"))):
            steps = batch.inputs.steps
            assert steps is not None
            for b, length in enumerate(steps.length_B.tolist()):
                times = (steps.position_P[batch.row_P == b] % steps.numeric_BTS.shape[1]).tolist()
                assert times == sorted({min(4, length - 1), length - 1})

    def test_sequences_end_where_nothing_more_is_predicted(self) -> None:
        data = learnable_sequences().only(("died", "group"))
        for batch in epoch(data):
            steps = batch.inputs.steps
            assert steps is not None
            assert steps.numeric_BTS.shape[1] <= 5
            ended = batch.labels_PL[:, 0].isnan()
            assert ended[(steps.length_B[batch.row_P] < 5)].all()
            assert batch.row_P is not None
            assert batch.row_P.unique().numel() == batch.num_rows  # also a sequence that is too short is predicted

    def test_a_task_with_a_label_a_step_may_be_alone(self) -> None:
        data = learnable_sequences()
        alone, together = (epoch(each)[0] for each in (data.only(("sick",)), data))
        assert torch.equal(alone.labels_PL.nan_to_num(7), together.labels_PL[:, :1].nan_to_num(7))

    def test_a_sequence_weighs_at_each_of_its_steps_what_its_row_weighs(self) -> None:
        weighted = schema(SEQUENCE_TASKS, weighted=("sick",))
        splits = sequence_splits()
        splits["train"] = replace(splits["train"], weights_NW=np.abs(splits["train"].numeric_NF[:, :1]))
        batch = epoch(TensorData.of(weighted, splits, CPU))[0]
        assert batch.weight_PL is not None
        assert torch.equal(batch.weight_PL[:, 0], batch.inputs.numeric_BF[:, 0].abs()[batch.row_P])
        assert (batch.weight_PL[:, 1:] == 1).all()

    def test_every_sequence_is_seen_once_also_in_predictions(self) -> None:
        rows = sorted(sequence_splits()["train"].numeric_NF[:, 0].tolist())
        data = learnable_sequences()
        assert sorted(firsts(epoch(data))) == rows
        for size in (1, 3):
            shares = [list(data.ordered("train", 100, World(rank, size))) for rank in range(size)]
            assert sorted(value for share in shares for value in firsts(share)) == rows


class TestBuckets:
    """Rows of like length make a batch."""

    def test_little_of_a_batch_is_padding_and_their_order_is_random(self) -> None:
        length_rn = torch.randint(1, 500, (1, 20_000), generator=torch.Generator().manual_seed(1))
        batches = [length_rn[0, rows[0]] for rows in bucketed(length_rn, 64, 1, torch.Generator().manual_seed(2))]
        assert sum(map(len, batches)) == 20_000
        padded = sum(len(batch) * int(batch.max()) for batch in batches)
        assert padded < 1.1 * int(length_rn.sum())
        longest = torch.tensor([float(batch.max()) for batch in batches])
        neighbours = torch.corrcoef(torch.stack([longest[:-1], longest[1:]]))[0, 1]
        assert abs(float(neighbours)) < 0.15

    def test_a_batch_has_at_most_so_many_padded_steps(self) -> None:
        length_rn = torch.randint(1, 9000, (1, 3000), generator=torch.Generator().manual_seed(1))
        batches = [length_rn[0, rows[0]] for rows in bucketed(length_rn, 64, 1, torch.Generator().manual_seed(2))]
        assert sum(map(len, batches)) == 3000
        assert max(len(batch) * int(batch.max()) for batch in batches) <= order_module.MOST_STEPS
        assert max(map(len, batches)) == 64

    def test_lists_of_rows_are_cut_alike(self) -> None:
        """A list a rank: as many batches, with as many rows, whatever the lengths."""
        length_rn = torch.randint(1, 400, (3, 1000), generator=torch.Generator().manual_seed(1))
        batches = list(bucketed(length_rn, 64, 3, torch.Generator().manual_seed(2)))
        for rank in range(3):
            assert sorted(row for rows_rb in batches for row in rows_rb[rank].tolist()) == list(range(1000))
        assert max(rows_rb.numel() for rows_rb in batches) <= 64

    @pytest.mark.parametrize(
        ("longest", "least", "expected"),
        [
            ([5, 4, 3, 2, 1], 1, [2, 3]),
            ([100, 5, 5, 1], 1, [1, 2, 1]),
            ([100, 100, 100], 2, [2]),  # the third would be alone
            ([5, 5, 5, 5, 3], 2, [2, 2]),
            ([3, 3, 3, 3], 3, [3]),
        ],
    )
    def test_cuts(self, longest: list[int], least: int, expected: list[int]) -> None:
        assert [cut.stop - cut.start for cut in cuts(longest, most_rows=3, most_steps=10, least=least)] == expected


@pytest.mark.parametrize("size", [2, 3])
@pytest.mark.parametrize("make", [learnable, learnable_sequences])
def test_ranks_share_the_batches_of_one_rank(make: object, size: int) -> None:
    data: TensorData = make({"train": 500, "validation": 10, "test": 10})  # type: ignore[operator]
    whole = epoch(data)
    dealt = [epoch(data, world=World(rank, size)) for rank in range(size)]
    assert {len(batches) for batches in dealt} == {len(whole)}
    for index, batch in enumerate(whole):
        together = [value for batches in dealt for value in firsts([batches[index]])]
        assert sorted(together) == sorted(firsts([batch]))


def test_a_last_batch_with_fewer_rows_than_ranks_is_left_out_by_all_of_them() -> None:
    data = learnable({"train": 66, "validation": 10, "test": 10})
    assert [len(epoch(data, world=World(rank, 3))) for rank in range(3)] == [1, 1, 1]


def test_a_split_with_fewer_rows_than_ranks_is_still_predicted_whole() -> None:
    data = learnable({"train": 66, "validation": 2, "test": 10})
    shares = [list(data.ordered("validation", 100, World(rank, 3))) for rank in range(3)]
    assert sum(batch.num_rows for share in shares for batch in share) == 2


def test_sequence_tasks_have_their_outputs() -> None:
    assert learnable_sequences().widths == (1, 1, 1, 2, 3)
    assert learnable_sequences().input_spec.has_steps
    assert [task.name for task in learnable_sequences().tasks] == [task.name for task in SEQUENCE_TASKS]
