"""`constraints:` what holds, what is violated, and what is refused when the file is read."""

from __future__ import annotations

import pytest

from mtlsearch.config import AdamWConfig, MMoEConfig, MMoEExConfig, TrialConfig

MODELS = "model: {choice: [mmoe, mmoeex]}\noptimizer: {lr: {float: [1e-4, 1e-2]}, clip_norm: {choice: [null, 1]}}"
MMOEEX = TrialConfig(model=MMoEExConfig(num_experts=8, alpha=0.5), optimizer=AdamWConfig(lr=1e-3))
MMOE = TrialConfig(model=MMoEConfig(num_experts=8), optimizer=AdamWConfig(lr=1e-3))


@pytest.mark.parametrize(
    ("text", "holds"),
    [
        ("alpha * num_experts < num_experts", True),
        ("model.alpha > 0.5", False),
        ("2 <= num_experts <= 8", True),
        ("2 <= num_experts < 8 < 9", False),
        ("model.num_experts <= 4 or optimizer.lr < 1e-2", True),
        ("not (num_experts == 8 and alpha == 0.5)", False),
        ("model.kind == 'mmoeex'", True),
        ("model.kind != 'mmoe' or num_experts <= 4", True),
        ("amp == 'off'", True),
        ("min(num_experts, 4) + max(1, 2, 3) == 7", True),
        ("abs(-alpha) == +0.5", True),
        ("num_experts // 3 == 2 and num_experts % 3 == 2 and num_experts / 16 == 0.5", True),
        ("num_experts ** 2 == 64", True),
        ("clip_norm == null", True),
        ("clip_norm == None or clip_norm < 2", True),
        ("true and alpha < 1", True),
        ("clip_norm < 2", False),  # nothing is no number: what cannot be evaluated is violated
        ("num_experts / (alpha - 0.5) > 0", False),  # division by zero
        ("(alpha - 1) ** 0.5 < 9", False),  # a root of a negative number
        ("lr ** (num_experts * 100) < 1", False),  # an exponent out of bounds
    ],
)
def test_a_constraint_on_a_configuration(space_of, text, holds):
    space = space_of(MODELS, f'constraints: ["{text}"]\n')

    violated = space.violated(MMOEEX)

    assert (violated is None) == holds
    if violated is not None:
        assert violated.text == text
        assert str(violated.where) == "space.yaml:5:15"


@pytest.mark.parametrize("text", ["alpha < 0.1", "alpha > 2 and num_experts > 100", "not alpha < 2"])
def test_a_constraint_says_nothing_where_the_branch_lacks_its_field(space_of, text):
    assert space_of(MODELS, f"constraints: ['{text}']\n").violated(MMOE) is None


def test_the_first_violated_constraint_is_named(space_of):
    space = space_of(MODELS, "constraints:\n  - alpha < 1\n  - num_experts < 8\n  - num_experts < 7\n")

    assert space.violated(MMOEEX).text == "num_experts < 8"
    assert str(space.violated(MMOEEX).where) == "space.yaml:7:5"


def test_constraints_reach_fields_of_nested_and_default_components(space_of):
    space = space_of(MODELS, "constraints: [num_layers < 2, 'model.expert.num_layers == 1', tower_hidden > 8]\n")

    assert space.violated(MMOE) is None


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("alpa < 1", "no configuration has a field `alpa`. Did you mean `alpha`?"),
        ("optimizer.alpha < 1", "no configuration has a field `optimizer.alpha`."),
        (
            "kind == 'mmoe'",
            "`kind` may be model.kind or model.expert.kind or model.regularizer.kind or balancing.kind or "
            "sampling.kind or optimizer.kind; write a longer path",
        ),
        ("alpha <", "does not parse"),
        ("alpha = 1", "does not parse"),
        ("", "does not parse"),
        ("alpha + 1", "must be true or false, such as a comparison"),
        ("1 < 2", "names no parameter"),
        ("alpha < 'x'", "`'x'` must be a number, found 'x'"),
        ("alpha + 'x' < 1", "`'x'` must be a number"),
        ("amp < 3", "`amp` is never a number; compare it with == or !="),
        ("min(amp, 3) < 3", "`amp` is never a number"),
        ("alpha < 1 / 0", "division by zero"),
        ("alpha < 9 ** 9 ** 9", "an exponent must be between -64 and 64"),
        ("alpha < " + " * ".join(["9 ** 64"] * 9), "a number is out of range: inf"),
        ("alpha < 1e999", "is not allowed"),
        ("alpha and (2 and 3)", "must be true or false, found"),
        ("__import__('os').system('true') == 0", "is not allowed; an expression has numbers"),
        ("().__class__.__bases__[0] == 1", "is not allowed"),
        ("alpha.__class__ == 1", "no configuration has a field `alpha.__class__`"),
        ("alpha.__init__.__globals__ == 1", "no configuration has a field"),
        ("(alpha).real() == 1", "is not allowed"),
        ("'{0.__class__}'.format(alpha) == 1", "is not allowed"),
        ("f'{alpha}' == 'x'", "is not allowed"),
        ("alpha[0] == 1", "is not allowed"),
        ("(lambda: 1)() == alpha", "is not allowed"),
        ("[x for x in (1, 2)] == alpha", "is not allowed"),
        ("(x := 3) == alpha", "is not allowed"),
        ("eval('1') == alpha", "is not allowed"),
        ("alpha if alpha else 1", "is not allowed"),
        ("alpha in (1, 2)", "is not allowed"),
        ("alpha is 1", "is not allowed"),
        ("alpha << 100", "is not allowed"),
        ("~num_experts < 1", "is not allowed"),
        ("alpha < 1j", "is not allowed"),
        ("min() < alpha", "is not allowed"),
        ("abs(1, 2) < alpha", "is not allowed"),
        ("max(*alpha) < 1", "is not allowed"),
        ("min(alpha, key=abs) < 1", "is not allowed"),
        ("alpha < " + "1 + " * 80 + "1", "must have at most 300 characters"),
        ("alpha < " + "+".join("1" * 70), "must have at most 60 parts"),
        ("alpha < " + "-" * 100 + "1", "must have at most 60 parts"),
        ("(" * 140 + "alpha" + ")" * 140 + " < 1", ""),
        ("(" * 250, "does not parse"),
    ],
)
def test_refused_when_the_file_is_read(space_of, message_of, text, message):
    quoted = '"' + text.replace('"', '\\"') + '"'
    indented = MODELS.replace("\n", "\n  ")
    file = f"data: {{source: flights}}\nspace:\n  {indented}\nconstraints:\n  - {quoted}\n"
    if not message:  # harmless: parentheses leave no trace in the tree
        space_of(MODELS, f"constraints: [{quoted}]\n")
        return

    told = message_of(file)

    assert told.startswith("space.yaml:6:5: constraint ")
    assert message in told


def test_a_longer_path_settles_an_ambiguous_name(space_of):
    space = space_of(MODELS, "constraints: [\"model.kind == 'mmoe'\"]\n")

    assert space.violated(MMOE) is None
    assert space.violated(MMOEEX) is not None


@pytest.mark.parametrize(
    "text", ["alpha < num_experts * 1e308", "alpha < 1e200 * alpha * 1e200 * 4", "0 < -lr * 1e308 * 1e9"]
)
def test_a_number_out_of_range_cannot_be_evaluated(space_of, text):
    assert space_of(MODELS, f"constraints: ['{text}']\n").violated(MMOEEX) is not None
