"""What a store knows of its labels, and which tasks it refuses."""

import numpy as np
import pytest

from mtlsearch.config import Task
from mtlsearch.data.columns import SPLITS
from mtlsearch.data.labels import LabelFit, check_labels, one_class_notes
from mtlsearch.errors import ConfigError

NAN = np.nan
KINDS = {
    "binary": Task(name="dead", kind="binary"),
    "regression": Task(name="dose", kind="regression"),
    "multiclass": Task(name="ward", kind="multiclass", classes=("a", "b", "c")),
    "multilabel": Task(name="codes", kind="multilabel", classes=("x", "y")),
}


def fitted(kind: str, *parts: list) -> LabelFit:
    fit = LabelFit(KINDS[kind])
    for part in parts:
        fit.add(np.array(part, np.float32))
    return fit


@pytest.mark.parametrize(
    ("kind", "first", "second", "frequencies", "missing"),
    [
        ("binary", [0, 1, NAN], [1, 1], [3], 1),
        ("multiclass", [0, 2, NAN], [2, 1], [1, 1, 2], 1),
        ("multilabel", [[0, 1], [NAN, NAN]], [[NAN, 1], [1, 0]], [1, 2], 1),
        ("regression", [1, NAN, 3], [5], [], 1),
    ],
)
def test_counts(kind: str, first: list, second: list, frequencies: list[int], missing: int) -> None:
    fit = fitted(kind, first, second)
    assert (fit.frequencies.tolist(), fit.missing) == (frequencies, missing)
    assert fit.trivial is None


def test_only_a_regression_has_a_scale() -> None:
    assert fitted("regression", [1, NAN], [3]).scale == (2.0, 1.0)
    assert fitted("binary", [0, 1, 1]).scale == (0.0, 1.0)


def test_labels_are_far_where_their_mean_is_many_deviations_from_0() -> None:
    assert not fitted("regression", [900, 902]).is_far
    assert fitted("regression", [1100, 1102]).is_far
    assert fitted("regression", [-1102, -1100]).is_far
    assert not fitted("regression", [NAN]).is_far
    assert not fitted("binary", [1, 1, 0]).is_far


@pytest.mark.parametrize(
    ("kind", "labels", "found"),
    [
        ("binary", [1, 1, NAN], "only 1"),
        ("binary", [0, 0], "only 0"),
        ("binary", [NAN, NAN], "no label at all"),
        ("regression", [3, 3], "only 3"),
        ("multiclass", [1, 1, NAN], "only 'b'"),
        ("multilabel", [[0, 1], [0, 1]], "each is always or never given"),
    ],
)
def test_a_task_with_nothing_to_learn_is_refused(kind: str, labels: list, found: str) -> None:
    labels_of = {name: [fitted("binary", [0, 1])] for name in SPLITS} | {"train": [fitted(kind, labels)]}
    with pytest.raises(ConfigError, match=found):
        check_labels(labels_of, None)


def test_all_such_tasks_are_named_at_once() -> None:
    train = [fitted("binary", [1, 1]), fitted("regression", [1, 2]), fitted("multiclass", [2, 2])]
    with pytest.raises(ConfigError, match=r"'dead' .* only 1 \(so it is with ward\)"):
        check_labels({"train": train}, None)


def test_a_split_in_which_a_task_has_one_class_is_told_of() -> None:
    """Not refused: training has both, so there is something to learn; but nothing to rank by."""
    both, one, none = fitted("binary", [0, 1]), fitted("binary", [0, 0]), fitted("multiclass", [NAN])
    labels = {"train": [both, fitted("multiclass", [0, 1])], "validation": [one, none], "test": [both, none]}
    check_labels(labels, None)
    assert list(one_class_notes(labels)) == [
        "In validation, labels are all alike or missing of 'dead' (only 0), 'ward' (no label at all): "
        "metrics that need different labels are undefined there.",
        "In test, labels are all alike or missing of 'ward' (no label at all): "
        "metrics that need different labels are undefined there.",
    ]
    many = {"validation": [one] * 11}
    assert next(one_class_notes(many)).count("'dead'") == 8
    assert "and 3 more: metrics" in next(one_class_notes(many))
