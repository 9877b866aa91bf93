"""`--set key=value`."""

from __future__ import annotations

import pytest

from mtlsearch.config import MMoEConfig
from mtlsearch.space import IntDomain

FILE = """\
data: {source: flights}
space:
  model:
    choice:
      - {kind: mmoe, num_experts: 4}
      - shared_bottom
search: {sampler: tpe, seed: 7}
"""


@pytest.mark.parametrize(
    ("override", "seen"),
    [
        ("search.seed=3", lambda e: e.search.seed == 3),
        ("search.sampler={kind: tpe, n_startup_trials: 4}", lambda e: e.search.sampler.n_startup_trials == 4),
        ("budget.trials=5", lambda e: e.budget.trials == 5),
        ("budget.wall=1h30m", lambda e: e.budget.wall == 5400),
        ("tracking.wandb.project=mine", lambda e: e.tracking.wandb.project == "mine"),
        ("space.model={kind: mmoe}", lambda e: e.space.config({"optimizer.lr": 1e-3}).model == MMoEConfig()),
        ("space.model.choice.0.num_experts={int: [2, 4]}", lambda e: "model.mmoe.num_experts" in e.space.dimensions),
        ("space.model.choice.1=mmoeex", lambda e: e.space.dimensions["model"].options == ("mmoe", "mmoeex")),
        ("space.amp=off", lambda e: e.space.config({"model": "mmoe", "optimizer.lr": 1e-3}).amp == "off"),
        ("space.optimizer.lr=1e-3", lambda e: "optimizer.lr" not in e.space.dimensions),
        ("name=a=b", None),
        (" search.seed = 3", lambda e: e.search.seed == 3),
    ],
)
def test_an_override_is_applied_before_validation(read, message_of, override, seen):
    if seen is None:
        assert message_of(FILE, override).startswith("--set name=a=b: `name`: it names a folder")
    else:
        experiment = read(FILE, override)
        assert seen(experiment)
        assert experiment.overrides == (override,)
        assert experiment.text == FILE


def test_later_overrides_see_earlier_ones(read):
    space = read(FILE, "space.model={kind: mmoe}", "space.model.num_experts={int: [3, 5]}").space

    assert space.dimensions["model.num_experts"] == IntDomain(3, 5)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        (
            "search.sed=3",
            "unknown key 'sed'; allowed: sampler, pruner, seed, enqueue, warm_start, storage. Did you mean `seed`?",
        ),
        ("serch.seed=3", "unknown key 'serch'; "),
        ("search.seed=x", "`seed` must be a whole number, found 'x'"),
        ("search.seed=", "`seed` must be a whole number, found nothing (null)"),
        ("space.model.choice.1=mmo", "unknown kind of `model`: 'mmo'; "),
        ("space.model.choice.2=mmoe", "`space.model.choice` is a list: give a position from 0 to 1, not `2`"),
        ("space.model.choice.first=mmoe", "`space.model.choice` is a list: give a position from 0 to 1"),
        ("search.sampler.kind=random", "`search.sampler` is 'tpe', which has no keys. Set it whole: search.sampler=…"),
        ("seed", "must be key=value with a dotted key, such as search.seed=3"),
        ("=3", "must be key=value"),
        ("search..seed=3", "must be key=value"),
        ("budget.wall=[", "not YAML: "),
        ("budget.trials=!!python/object:os.system x", "YAML tags are not read"),
        ("budget={trials: 1, trials: 2}", "`trials` is given twice"),
        ("search.seed=\udcff", "not YAML: character 0xdcff is not text"),
    ],
)
def test_a_wrong_override_is_named(message_of, override, message):
    told = message_of(FILE, override)

    printable = override.encode("utf-8", "backslashreplace").decode()
    assert told.startswith(f"--set {printable}: {message}")
