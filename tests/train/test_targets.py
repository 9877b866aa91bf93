"""Labels as they are stored, as they are learnt, and in original units again."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from conftest_train import CPU, MEAN, STD, TASKS, schema, table_splits

from mtlsearch.train.targets import Targets

FAR = 1.7e9
"""As Unix times: float32 has steps of 128 there."""


def test_labels_that_are_stored_less_their_mean_are_learnt_as_any_and_scored_in_original_units() -> None:
    near, split = schema(TASKS), table_splits()["train"]
    means = tuple(mean + FAR * (task.kind == "regression") for task, mean in zip(TASKS, near.label_mean, strict=True))
    far = near.model_copy(update={"label_mean": means, "centred": ("delay",)})
    stored = replace(split, labels_NL=split.labels_NL - np.array([0, MEAN, 0], np.float32))

    plain, centred = Targets.of(near, TASKS, CPU), Targets.of(far, TASKS, CPU)
    expected = plain.labels(torch.from_numpy(split.labels_NL), per_step=False)
    scaled = centred.labels(torch.from_numpy(stored.labels_NL), per_step=False)
    torch.testing.assert_close(scaled, expected, equal_nan=True, rtol=0, atol=1e-6)

    outputs, labels = centred.unscaled(scaled, scaled)
    original = split.labels_NL.astype(np.float64) + np.array([0, FAR, 0])
    np.testing.assert_allclose(labels.numpy(), original, rtol=0, atol=1e-5 * STD)
    np.testing.assert_allclose(outputs.numpy(), original, rtol=0, atol=1e-5 * STD)
