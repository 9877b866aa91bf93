"""Multinomial adversarial network with a mixture of experts: features that hide the domain beside domain experts.

Chen, Awadallah, Hassan, Wang, Cardie, "Multi-Source Cross-Lingual Model Transfer: Learning What to Share", ACL
2019, arXiv 1810.03552, section 3: a shared extractor F_s, from whose features f_s a discriminator D must not tell the
domain; a private one F_p, a mixture f_p = Σ_e softmax(gate(x))_e f_e(x) with an expert for each domain, whose gate is
taught to pick the row's; what predicts reads [f_s; f_p].

Two penalties, both cross-entropies against the row's domain and 0 where that is unknown or missing:
- "adversarial" is D's own loss, counted once, so D learns at its full rate whatever λ. D reads f_s through a reversal,
  so F_s and the embeddings get −λ times its gradient. Its value says how well D does: it starts near ln(domains), and
  is to stay there.
- "gate" is `gate_supervision` times that of the gate's logits.

Where we deviate: every task reads the same features, through a tower of its own (the paper has one task, and a second
mixture, of log-probabilities, as predictor); each of F_p's experts reads the inputs (theirs an LSTM's outputs, one for
all experts); all is one step by gradient reversal (theirs alternates, with the same gradients); the gate has no bias,
and its gradient reaches the embeddings (theirs is detached); D and the gate learn from the training rows alone (the
paper adds unlabelled ones, of a target domain too, which has no expert); of sequences, D reads f_s at each prediction
(theirs pools the sequence), so a row counts as often as it has predictions. The domain is read by the penalties alone:
outputs do not depend on it.

Axes: B batch, P predictions, E domains, hence experts, C categorical columns, K tasks, H hidden units, O outputs.
"""

from __future__ import annotations

from dataclasses import replace
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mtlsearch.config import ManMoeConfig, Task
from mtlsearch.config.encoding import FIRST
from mtlsearch.models.base import Mixture, MultiTaskModel, Regularized
from mtlsearch.models.experts import build_experts
from mtlsearch.models.gates import Gates, mix
from mtlsearch.models.inputs import Inputs, InputSpec, build_inputs
from mtlsearch.models.linear import BatchedLinear, HiddenLayers
from mtlsearch.models.towers import build_towers

NO_DOMAIN = -100


class Parts(NamedTuple):
    """What the network makes of a batch."""

    f_s_1PH: Tensor
    logit_1EP: Tensor
    mixture: Mixture
    """With one gate for all tasks, gate_P1E."""


class ManMoe(MultiTaskModel):
    """A shared extractor, a mixture of domain experts, and a discriminator that works against the former."""

    def __init__(
        self, config: ManMoeConfig, inputs: InputSpec, tasks: tuple[Task, ...], generator: torch.Generator
    ) -> None:
        super().__init__(tasks)
        self.reversal, self.gate_supervision = config.adversarial, config.gate_supervision
        self.column = inputs.categorical_names.index(config.domain)
        num_domains = inputs.cardinalities[self.column] - FIRST
        self.inputs = build_inputs(config, without_column(inputs, self.column), generator)
        self.shared = build_experts(config, 1, self.inputs, generator)
        self.private = build_experts(config, num_domains, self.inputs, generator)
        self.gate = Gates(1, num_domains, self.inputs.num_units, generator, expert_dropout=config.expert_dropout)
        self.towers = build_towers(config, self.widths, generator, 2 * config.hidden)
        sizes = (config.hidden, config.hidden)
        self.discriminator = nn.Sequential(
            HiddenLayers(1, sizes, config.dropout, generator), BatchedLinear(1, config.hidden, num_domains, generator)
        )

    def forward(self, inputs: Inputs) -> Tensor:
        """outputs_PO."""
        return self._outputs(self._parts(inputs))

    def regularized(self, inputs: Inputs) -> Regularized:
        """outputs_PO, what D loses, and what the gate does."""
        parts, domain_P = self._parts(inputs), self._domain(inputs)
        guess_1PE = self.discriminator(reversed_gradient(parts.f_s_1PH, self.reversal))
        penalties = {
            "adversarial": surprise(guess_1PE[0], domain_P),
            "gate": self.gate_supervision * surprise(parts.logit_1EP[0].t(), domain_P),
        }
        return Regularized(self._outputs(parts), penalties)

    def mixture(self, inputs: Inputs) -> Mixture:
        """The domain experts, and the gate once for each task."""
        gate_P1E, f_EPH = self._parts(inputs).mixture
        return Mixture(gate_P1E.expand(-1, self.num_tasks, -1), f_EPH)

    def _parts(self, inputs: Inputs) -> Parts:
        column, categorical_BC = self.column, inputs.categorical_BC
        others = torch.cat([categorical_BC[:, :column], categorical_BC[:, column + 1 :]], dim=1)
        features = self.inputs(inputs._replace(categorical_BC=others))
        logit_1EP = (self.gate.weight_KEI[0] @ features.at_PI.t()).unsqueeze(0)
        mixture = Mixture(self.gate.weights(logit_1EP), self.private(features))
        return Parts(self.shared(features), logit_1EP, mixture)

    def _outputs(self, parts: Parts) -> Tensor:
        f_1PJ = torch.cat([parts.f_s_1PH, mix(*parts.mixture)], dim=2)
        outputs_PO: Tensor = self.towers(f_1PJ.expand(self.num_tasks, -1, -1))
        return outputs_PO

    def _domain(self, inputs: Inputs) -> Tensor:
        """domain_P, counted from 0; negative where it is unknown or missing."""
        domain_B = inputs.categorical_BC[:, self.column].long() - FIRST
        if inputs.steps is None:
            return domain_B
        return domain_B.index_select(0, inputs.steps.position_P // inputs.steps.numeric_BTS.shape[1])


def without_column(inputs: InputSpec, column: int) -> InputSpec:
    """The columns that the network reads."""
    cardinalities, names = inputs.cardinalities, inputs.categorical_names
    return replace(
        inputs,
        cardinalities=cardinalities[:column] + cardinalities[column + 1 :],
        categorical_names=names[:column] + names[column + 1 :],
    )


def reversed_gradient(x: Tensor, factor: float) -> Tensor:
    """x itself, whose gradient is −factor times what it should be; as it is made of plain sums, so are second ones."""
    return x.detach() + factor * (x.detach() - x)


def surprise(logit_PE: Tensor, domain_P: Tensor) -> Tensor:
    """penalty_P: −log softmax(logit)[domain]; 0 where there is no domain."""
    target_P = domain_P.where(domain_P >= 0, NO_DOMAIN)
    return F.cross_entropy(logit_PE, target_P, ignore_index=NO_DOMAIN, reduction="none")
