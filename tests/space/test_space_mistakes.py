"""Every way that a space file can be wrong, and what its author is told: place, finding, remedy."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from toy_balancing import KINDS as BALANCING_KINDS
from toy_models import ARCHITECTURES

from mtlsearch.errors import ConfigError
from mtlsearch.space import read_experiment

KINDS = ", ".join(kind.model_fields["kind"].default for kind in ARCHITECTURES)


@pytest.mark.parametrize(
    ("model", "message"),
    [
        ("mmo", f"10: unknown kind of `model`: 'mmo'; allowed: {KINDS}. Did you mean `mmoe`?"),
        ("{kind: mmoex}", "17: unknown kind of `model`: 'mmoex'; "),
        ("{num_experts: 3}", f"10: `model` needs `kind`, one of {KINDS}"),
        ("{int: [1, 2]}", "10: `model` needs `kind`, "),
        ("{kind: {choice: [mmoe, mmoeex]}}", "17: `kind` must be one word of "),
        ("[mmoe, mmoeex]", "10: `model` must be one of "),
        ("3", "10: `model` must be one of "),
        ("", "9: `model` must be one of "),
        ("{choice: []}", "19: `choice` must be a list of at least one item, found []"),
        ("{choice: mmoe}", "19: `choice` must be a list of at least one item, found 'mmoe'"),
        ("{choice: [mmoe, 3]}", "26: `model` must be one of "),
        ("{choice: [mmoe, mmoe]}", "26: 'mmoe' is listed twice in the choice for `model`"),
        ("{choice: [mmoe], log: true}", "27: unknown key 'log'; allowed: choice."),
        ("{choice: [{choice: [mmoe]}]}", "20: `model` needs `kind`"),
        ("{kind: mmoeex, num_expert: 3}", "25: unknown key 'num_expert'; allowed: kind, hidden, expert, dropout, "),
    ],
)
def test_a_wrong_component(model_mistake, model, message):
    assert model_mistake(model).startswith(f"space.yaml:3:{message}")


@pytest.mark.parametrize(
    ("field", "message"),
    [
        ("num_experts: 0", "`num_experts` must be at least 1, found 0"),
        ("num_experts: '4'", "`num_experts` must be a whole number, found '4'"),
        ("num_experts: 4.0", "`num_experts` must be a whole number, found 4.0"),
        ("num_experts: true", "`num_experts` must be a whole number, found true"),
        ("num_experts:", "`num_experts` must be a whole number, found nothing (null)"),
        ("num_experts: [2, 4]", "`num_experts` must be a whole number, found [2, 4]. To search over values, write"),
        ("num_experts: 99999999999999999999", "whole numbers have at most 18 characters, found 20"),
        ("num_experts: {}", "`num_experts` must be a value or have exactly one of int, float, choice; found nothing"),
        ("num_experts: {it: [2, 16]}", "`num_experts` must be a value or have exactly one of int, float, choice; "),
        ("num_experts: {int: [2, 4], float: [2, 4]}", "`num_experts` must be a value or have exactly one of "),
        ("num_experts: {int: [16, 2]}", "`int` must go from low to high, found [16, 2]. Write [2, 16]."),
        ("num_experts: {int: [2]}", "`int` must be two whole numbers [low, high], found [2]"),
        ("num_experts: {int: 3}", "`int` must be two whole numbers [low, high], found 3"),
        ("num_experts: {int: [2.5, 4]}", "`int` must be two whole numbers [low, high], found [2.5, 4]. For real"),
        ("num_experts: {int: [true, 4]}", "`int` must be two whole numbers [low, high], found [true, 4]"),
        ("num_experts: {int: [0, 4], log: true}", "a log range must start at 1 or above, found [0, 4]"),
        ("num_experts: {int: [2, 16], log: 1}", "`log` must be true or false, found 1"),
        ("num_experts: {int: [2, 16], lg: true}", "unknown key 'lg'; allowed: int, log, step. Did you mean `log`?"),
        ("num_experts: {int: [2, 16], step: 0}", "`step` must be a whole number greater than 0, found 0"),
        ("num_experts: {int: [2, 16], step: 1.5}", "`step` must be a whole number greater than 0, found 1.5"),
        ("num_experts: {int: [2, 16], step: 3}", "`step` must lead from 2 to 16, but 3 leads to 14. Write [2, 14]"),
        ("num_experts: {int: [2, 16], step: 2, log: true}", "`log` and `step` exclude each other"),
        ("num_experts: {int: [2, 999]}", "`num_experts` must be at most 256, found 999"),
        ("num_experts: {float: [2, 4]}", "`num_experts` must be a whole number, found 2.0"),
        ("num_experts: {choice: [2, '4']}", "`num_experts` must be a whole number, found '4'"),
        ("num_experts: {choice: [2, 2]}", "2 is listed twice in the choice for `num_experts`"),
        ("num_experts: {choice: [2, [3]]}", "a choice for `num_experts` lists plain values, found [3]"),
        ("num_experts: {choice: []}", "`choice` must be a list of at least one item, found []"),
        ("num_experts: {choice: [2], step: 1}", "unknown key 'step'; allowed: choice."),
        ("alpha: {float: [0, 2]}", "`alpha` must be at most 1.0, found 2.0"),
        ("alpha: {float: [0, 1], log: true}", "a log range must start above 0, found [0, 1]"),
        ("alpha: {float: [-1, 1], log: true}", "a log range must start above 0, found [-1, 1]"),
        ("alpha: {float: [0.1, 1], log: true, step: 0.1}", "`log` and `step` exclude each other"),
        ("alpha: {float: [0, 1], step: 0.3}", "`step` must lead from 0.0 to 1.0, but 0.3 leads to 0.9. Write [0.0,"),
        ("alpha: {float: [0, 1], step: -0.1}", "`step` must be a number greater than 0, found -0.1"),
        ("alpha: {float: [0, 1], step: 1e-9}", "`step` makes more than 1,000,000 values"),
        ("alpha: {float: ['0', 1]}", "`float` must be two numbers [low, high], found ['0', 1]"),
        ("alpha: {float: [0, .nan]}", "numbers must be finite, found .nan"),
        ("alpha: {float: [0, .inf]}", "numbers must be finite, found .inf"),
        ("alpha: {float: [0, 1e999]}", "numbers must be finite, found 1e999"),
        ("alpha: {choice: [0.5, 1.5]}", "`alpha` must be at most 1.0, found 1.5"),
        ("exclusivity: {choice: [exclusion, inclusion]}", "`exclusivity` must be 'exclusivity' or 'exclusion', "),
        ("exclusivity: {int: [0, 1]}", "`exclusivity` must be 'exclusivity' or 'exclusion', found 0"),
        ("expert: gruu", "unknown kind of `expert`: 'gruu'; allowed: dense"),
        ("expert: {choice: [dense, gruu]}", "unknown kind of `expert`: 'gruu'; allowed: dense"),
        ("expert: {num_layers: 9}", "`num_layers` must be at most 4, found 9"),
    ],
)
def test_a_wrong_field(model_mistake, field, message):
    told = model_mistake("{kind: mmoeex, " + field + "}")

    assert told.startswith("space.yaml:3:")
    assert message in told
    assert "\n" not in told


@pytest.mark.parametrize(
    ("field", "message"),
    [
        ("alpha: 1.5", "`alpha` must be at most 1.0, found 1.5. Write a number from 0 to 1."),
        ("alpha: {float: [0, 2]}", "`alpha` must be at most 1.0, found 2.0. Write a number from 0 to 1."),
        ("alpha: {choice: [-1, 1]}", "`alpha` must be at least 0.0, found -1. Write a number from 0 to 1."),
        ("dropout: 1", "`dropout` must be less than 1.0, found 1. Write a number from 0 below 1."),
        ("num_experts: 0", "`num_experts` must be at least 1, found 0. Write a number from 1 to 256."),
        ("alpha: half", "`alpha` must be a number, found 'half'"),  # no bound is broken
        ("embedding_size: 0", "`embedding_size` must be at least 1 or 'rule', found 0"),  # nor is a number all there is
    ],
)
def test_a_number_beyond_its_bounds_is_answered_with_both(model_mistake, field, message):
    assert model_mistake("{kind: mmoeex, " + field + "}").split(": ", 1)[1] == message


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("serch: {}", "1: unknown key 'serch'; allowed: name, data, space, constraints, objective, search, budget, "),
        ("balancing: pcgrad", "1: `balancing` belongs under `space`: write it there, as `space: {balancing: …}`"),
        ("optimizer: {lr: 0.1}", "1: `optimizer` belongs under `space`: write it there"),
        (
            "search: {sed: 3}",
            "10: unknown key 'sed'; allowed: sampler, pruner, seed, enqueue, warm_start, storage. Did you mean `seed`?",
        ),
        ("search: {sampler: tpee}", "10: unknown kind of `sampler`: 'tpee'; allowed: tpe, "),
        ("search: {sampler: {kind: 3}}", "20: unknown kind of `sampler`: "),
        ("search: {pruner: {kind: hyperbnd}}", "19: unknown kind of `pruner`: 'hyperbnd'; allowed: none, "),
        ("search: {pruner: {min_epochs: 3}}", "18: `pruner` needs `kind`, one of none, median, "),
        (
            "search: {pruner: {kind: hyperband, min_epoch: 2}}",
            "36: unknown key 'min_epoch'; allowed: kind, min_epochs, reduction_factor. Did you mean `min_epochs`?",
        ),
        (
            "search: {pruner: {kind: patient, wrapped: {kind: median, n_warmup: 3}}}",
            "58: unknown key 'n_warmup'; allowed: kind, n_startup_trials, n_warmup_epochs. Did you mean",
        ),
        ("search: {seed: -1}", "16: `seed` must be at least 0, found -1"),
        ("search: {seed: 1.5}", "16: `seed` must be a whole number, found 1.5"),
        ("search: {seed: {int: [0, 4]}}", "16: `seed` must be a whole number, found {int: [0, 4]}. Only what stands"),
        ("search:", "8: `search` must be a mapping (`key: value`), found nothing (null). Its keys: sampler, "),
        ("search: [1]", "9: `search` must be a mapping (`key: value`), found [1]"),
        ("budget: {wall: 10 parsecs}", "16: `wall`: a duration is a number of seconds or like 90s, 10m, "),
        ("budget: {wall: " + "9" * 400 + "d}", "16: `wall` must be finite"),
        ("budget: {epochs: 0}", "18: `epochs` must be at least 1, found 0"),
        ("resources: {workers_per_trial: 0}", "32: `workers_per_trial` must be at least 1, found 0"),
        ("resources: {workers_per_trial: [0, 4]}", "32: `workers_per_trial` must be at least 1, found [0, 4]"),
        (
            "resources: {workers_per_trial: {int: [4, 1]}}",
            "32: `workers_per_trial`: the least workers, 4, are more than the most, 1. Write [1, 4].",
        ),
        (
            "resources: {workers_per_trial: [1, 2, 4]}",
            "32: `workers_per_trial`: a range has two ends, the least and the most workers; found [1, 2, 4]",
        ),
        (
            "resources: {workers_per_trial: {choice: [1, 4]}}",
            "32: `workers_per_trial`: it must be a whole number of workers, or a range such as [1, 4]; found {'choice'",
        ),
        (
            "resources: {gpus_per_worker: 1.5}",
            "30: `gpus_per_worker`: it must be a whole number of GPUs, or a share of one below 1; found 1.5. Write 1",
        ),
        ("tracking: {wandb: {mode: offlin}}", "26: `mode` must be 'auto', 'online' or 'offline', found 'offlin'"),
        ("objective: 3", "12: `objective` must be a mapping (`key: value`), found 3. Its keys: metric"),
        ("objective: {metrik: delta}", "13: unknown key 'metrik'; "),
        ("constraints: alpha < 1", "14: `constraints` must be a list, found 'alpha < 1'"),
        ("constraints: [3]", "15: `constraints[0]` must be text, found 3"),
        ("name: a/b", "7: `name`: it names a folder: at most 100 letters, digits, `.`, `_`, `-`; found 'a/b'"),
        ("name: ..", "7: `name`: it names a folder"),
        ("name: 3", "7: `name` must be text, found 3"),
        ("space: {model: mmoe}", "1: `space` is given twice; first at space.yaml:2:1. Keep one of them."),
        ("budget: {epochs: 2, epochs: 3}", "21: `epochs` is given twice; first at space.yaml:3:10. Keep one of them."),
        ("budget: !!python/object:os.system {}", "9: YAML tags are not read, found '!!python/object:os.system'."),
        ("budget: {epochs: !!python/name:os 3}", "18: YAML tags are not read, found '!!python/name:os'."),
        ("budget: !!set {a, b}", "9: YAML tags are not read, found '!!set'."),
        ("budget: {epochs: !!int x}", "18: "),
        ("budget: {1: 2}", "10: a key must be a word, found '1'"),
        ("budget: {[a]: 2}", "10: a key must be a word"),
        ("budget: {<<: {epochs: 3}}", "10: unknown key '<<'; "),
        ("budget: {epochs: 3", ""),
        ("a: b: c", "5: not YAML: mapping values are not allowed here"),
        ("\tbudget: {}", "1: not YAML: found character '\\t' that cannot start any token"),
        ('name: "\\UFFFFFFFF"', "1: "),
        ('name: "\\0"', "7: text must not have control characters, found '\\x00'"),
        ('name: "\\uD800"', "7: text must not have control characters, found '\\ud800'"),
        ("name: *nobody", "7: not YAML: found undefined alias 'nobody'"),
        ("--- {}", "1: not YAML: "),
    ],
)
def test_a_wrong_line(message_of, line, message):
    told = message_of(f"data: {{source: flights}}\nspace: {{model: mmoe}}\n{line}\n")

    assert told.startswith("space.yaml")
    assert message == "" or "UFFF" in line or told.startswith(f"space.yaml:3:{message}")


@pytest.mark.parametrize("task", ["{column: 'a/b', kind: binary}", "{column: a, kind: binary, name: test}"])
def test_a_name_that_scores_could_not_bear(message_of, task):
    told = message_of(f"data: {{source: table, path: t.csv, tasks: [{task}]}}\nspace: {{model: mmoe}}\n")
    assert "a task's name must be without `/`, which parts it from its metric's, and not `test`, but it is '" in told
    assert told.startswith("space.yaml:1:")


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ("{source: flight}", "8: unknown source of `data`: 'flight'; allowed: flights, census"),
        ("{}", "7: `data` needs `source`, one of flights, census"),
        ("flights", "7: `data` must be a mapping (`key: value`), found 'flights'. Its keys: source, "),
        ("{source: census}", "7: `path` is missing here: it must be given"),
        ("{source: census, pth: x}", "7: `path` is missing here"),
        ("{source: flights, tasks: []}", "32: `tasks` must be a list of at least 1, found []"),
        ("{source: flights, tasks: cancelled}", "32: `tasks` must be a list, found 'cancelled'"),
        ("{source: flights, tasks: [1]}", "33: `tasks[0]` must be text, found 1"),
        ("{source: flights, sorce: 1}", "25: unknown key 'sorce'; allowed: source, path, tasks"),
    ],
)
def test_wrong_data(message_of, data, message):
    told = message_of(f"data: {data}\nspace: {{model: mmoe}}\n").replace("; found", ", found")

    assert told.startswith(f"space.yaml:1:{message}")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "space.yaml: a space file must be a mapping with at least `data` and `space`, found an empty file"),
        ("# nothing\n", "space.yaml: a space file must be a mapping"),
        ("[]", "space.yaml: a space file must be a mapping with at least `data` and `space`, found []"),
        ("3", "space.yaml: a space file must be a mapping"),
        ("space: {model: mmoe}", "space.yaml: `data` is missing here: it must be given"),
        ("data: {source: flights}", "space.yaml: `space` is missing here: it must be given"),
        ("data: {source: flights}\nspace: mmoe", "space.yaml:2:8: `space` must be a mapping"),
        ("data: {source: flights}\nspace: {}", "space.yaml:2:8: `model` is missing here; give one of single_task, "),
        ("data: {source: flights}\nspace: {model: mmoe, bach_size: 3}", "space.yaml:2:22: unknown key 'bach_size'; "),
        ("data: {source: flights}\nspace: {model: mmoe, amp: 3}", "space.yaml:2:27: `amp` must be 'off' or 'bf16'"),
        ("data: [", "space.yaml:1:8: not YAML: "),
        ("a: \x00", "space.yaml:1: not YAML: character 0x0 is not text"),
        ("[" * 3000, "space.yaml:1:41: not YAML: nested deeper than 40 levels"),
        ("a: &a [*a]\n", "grows too large, or contains itself, through its aliases"),
    ],
)
def test_a_wrong_file(message_of, text, message):
    assert message in message_of(text)


def test_balancing_needs_a_kind_since_the_default_has_nothing_to_set(message_of):
    told = message_of("data: {source: flights}\nspace:\n  model: mmoe\n  balancing: {inner_lr: 0.1}\n")

    kinds = ", ".join(kind.model_fields["kind"].default for kind in BALANCING_KINDS)
    assert told == f"space.yaml:4:14: `balancing` needs `kind`, one of {kinds}"


def test_all_mistakes_are_told_at_once_in_the_order_of_the_file(message_of):
    told = message_of(
        """\
data: {source: flight}
space:
  model: {kind: mmoe, num_experts: {int: [16, 2]}}
  balancing: {kind: maml_mtl, inner_fraction: half, order: 3}
serch: {}
budget: {epochs: 0}
"""
    )

    assert [line.split(": ")[0] for line in told.splitlines()] == [
        "space.yaml:1:8",
        "space.yaml:3:42",
        "space.yaml:4:47",
        "space.yaml:4:60",
        "space.yaml:5:1",
        "space.yaml:6:18",
    ]
    assert "`inner_fraction` must be 'full' or a number, found 'half'" in told


def test_a_flood_of_mistakes_is_cut_short(message_of):
    told = message_of("data: {source: flights}\nspace:\n  model: mmoe\n" + "".join(f"  x{i}: 1\n" for i in range(50)))

    assert told.splitlines()[-1] == "… and 30 more"


def test_aliases_cannot_blow_up(message_of):
    lines = ["a0: &a0 [1, 2, 3, 4, 5, 6, 7, 8]"]
    lines += [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 8)}]" for i in range(1, 12)]

    assert "grows too large" in message_of("\n".join(lines))


def test_aliases_may_repeat_what_is_said_twice(read):
    read("data: {source: flights}\nspace: {model: {kind: mmoe, hidden: &h {choice: [8, 16]}, tower_hidden: *h}}\n")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("flihgts.yaml", "flihgts.yaml: no such file. Did you mean `flights.yaml`?"),
        ("nowhere/x.yaml", "nowhere/x.yaml: no such file."),
        (".", "is a folder; name the space file in it: flights.yaml"),
        ("a\0b", "no such file"),
        ("x" * 5000, "File name too long"),
        ("pipe", "is not a regular file"),
        ("latin.yaml", "latin.yaml:2: must be UTF-8 text, found byte 0xe9"),
        ("large.yaml", "a space file has at most 256 kB"),
    ],
)
def test_a_file_that_cannot_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name, message):
    monkeypatch.chdir(tmp_path)
    Path("flights.yaml").write_text("data: {}\n")
    Path("latin.yaml").write_bytes(b"a: 1\nname: caf\xe9\n")
    Path("large.yaml").write_bytes(b"# " + b"x" * 300_000)
    os.mkfifo("pipe")

    with pytest.raises(ConfigError) as caught:
        read_experiment(Path(name))

    assert message in str(caught.value)


def test_a_byte_order_mark_is_no_mistake(tmp_path: Path):
    path = tmp_path / "my space (2).yaml"
    path.write_bytes(b"\xef\xbb\xbfdata: {source: flights}\r\nspace: {model: mmoe}\r\n")

    assert read_experiment(path).name == "my_space__2_"


@pytest.mark.parametrize(
    ("written", "value"),
    [("1e-3", 1e-3), ("1E-3", 1e-3), ("1.e-3", 1e-3), (".001", 1e-3), ("1", 1.0), ("+1.5", 1.5), ("0x2", 2.0)],
)
def test_numbers_are_read_as_yaml_1_2_does(space_of, written, value):
    space = space_of(f"model: {{kind: mmoe}}\noptimizer: {{lr: {written}}}")

    assert space.config({}).optimizer.lr == value


@pytest.mark.parametrize("word", ["off", "no", "yes", "on", "12:30", "2013-01-01", "1_000"])
def test_words_stay_words(read, word):
    assert read(f"data: {{source: flights, path: {word}}}\nspace: {{model: mmoe}}\n").data.path == word
