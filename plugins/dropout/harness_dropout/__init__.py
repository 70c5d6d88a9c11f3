"""Dropout, its variants and the rivals it competes with, for the contract ``regularize``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

from harness.api import Json, Technique, hookimpl, ranged
from harness_dropout.parameters import KNOBS, SPECIAL

__version__ = "0.2.0"

HARNESS_API = 1


def _technique(
    *, params: Mapping[str, Json] = MappingProxyType({}), contract: str = "regularize", **fields: Any
) -> Technique:
    """Return a technique whose parameters have the kinds and ranges of `KNOBS`."""
    return Technique(contract=contract, params=ranged(params, *KNOBS, *SPECIAL.get(fields["id"], ())), **fields)


_RATES = {"rate": [0.2, 0.35, 0.5, 0.65]}
_HIGHER = {"rate": [0.35, 0.5, 0.65, 0.8]}
_UNITS = {"rate": 0.5, "input_ratio": 0.4}
_JMLR = "https://jmlr.org/papers/v15/srivastava14a.html"


_ON_UNITS = (
    Technique(
        id="none",
        contract="regularize",
        target="harness_dropout.base:Regularizer",
        summary="no regularisation: the baseline",
    ),
    _technique(
        id="dropout",
        target="harness_dropout.activations:Dropout",
        summary="x m / q on inputs and hidden units",
        reference=_JMLR,
        params=_UNITS,
        space=_RATES,
    ),
    _technique(
        id="srivastava",
        target="harness_dropout.activations:Srivastava",
        summary="x m in training, x q at test",
        reference=_JMLR,
        params=_UNITS,
        space=_RATES,
    ),
    _technique(
        id="gaussian",
        target="harness_dropout.activations:Gaussian",
        summary="x (1 + sqrt(p / q) e)",
        reference=_JMLR,
        params=_UNITS,
        space=_HIGHER,
    ),
    _technique(
        id="dropconnect",
        target="harness_dropout.weights:DropConnect",
        summary="weights are dropped; inference matches moments",
        reference="https://proceedings.mlr.press/v28/wan13.html",
        params={"rate": 0.5, "masks": 5, "inference": "moments"},
        space=_HIGHER,
    ),
    _technique(
        id="alpha",
        target="harness_dropout.activations:Alpha",
        summary="SELU; dropped units take its floor, mean and variance stay",
        reference="arXiv:1706.02515",
        params={"rate": 0.3},
        space={"rate": [0.1, 0.3, 0.5, 0.7]},
    ),
    _technique(
        id="variational",
        target="harness_dropout.learned:Variational",
        summary="Gaussian weight noise of learned size, by local reparameterisation",
        reference="arXiv:1506.02557",
        params={"rate": 0.3, "kl": 0.1},
        space={"rate": [0.05, 0.15, 0.3, 0.5]},
    ),
    _technique(
        id="concrete",
        target="harness_dropout.learned:Concrete",
        summary="dropout whose rates are learned through a concrete relaxation",
        reference="arXiv:1705.07832",
        params={"rate": 0.2, "length": 0.1, "kl": 1.0, "temperature": 0.1, "speed": 10.0},
        space={"kl": [0.3, 1.0, 3.0, 10.0]},
    ),
    _technique(
        id="standout",
        target="harness_dropout.activations:Standout",
        summary="a unit is kept with probability sigmoid(alpha W x + beta)",
        reference="https://papers.nips.cc/paper/5032-adaptive-dropout-for-training-deep-neural-networks",
        params={"alpha": 1.0, "beta": 0.0},
        space={"beta": [-2.0, -1.0, 0.0, 1.0]},
    ),
    _technique(
        id="importance-weighted",
        target="harness_dropout.activations:ImportanceWeighted",
        summary="x m / q_j, q_j growing with the unit's importance",
        reference="arXiv:1611.06440",
        params={"rate": 0.5, "spread": 0.9, "input_ratio": 0.4},
        space=_RATES,
    ),
)


_LOW_RATES = {"rate": [0.05, 0.1, 0.2, 0.3]}
_BRANCH_RATES = {"rate": [0.1, 0.2, 0.4, 0.6]}

_PARTS = (
    _technique(
        id="spatial",
        target="harness_dropout.maps:Spatial",
        summary="channels dropped as a whole",
        reference="arXiv:1411.4280",
        params={"rate": 0.1},
        space=_LOW_RATES,
    ),
    _technique(
        id="dropblock",
        target="harness_dropout.maps:DropBlock",
        summary="squares of feature maps dropped, at a rate that is ramped up",
        reference="arXiv:1810.12890",
        params={"rate": 0.1, "block": 7},
        space=_LOW_RATES,
    ),
    _technique(
        id="droppath",
        target="harness_dropout.branches:DropPath",
        summary="residual branches dropped",
        reference="arXiv:1603.09382",
        params={"rate": 0.2},
        space=_BRANCH_RATES,
    ),
    _technique(
        id="layerdrop",
        target="harness_dropout.branches:LayerDrop",
        summary="layers skipped",
        reference="arXiv:1909.11556",
        params={"rate": 0.2},
        space=_BRANCH_RATES,
    ),
)


_RECURRENT_RATES = {"rate": [0.1, 0.25, 0.4, 0.55]}

_RECURRENT = (
    _technique(
        id="rnn-variational",
        target="harness_dropout.recurrent:RnnVariational",
        summary="one mask a sequence on x_t and h_(t-1)",
        reference="arXiv:1512.05287",
        params={"rate": 0.25},
        space=_RECURRENT_RATES,
    ),
    _technique(
        id="rnn-fresh",
        target="harness_dropout.recurrent:RnnFresh",
        summary="a new mask at every step: what one mask a sequence has to beat",
        reference="arXiv:1512.05287",
        params={"rate": 0.25},
        space=_RECURRENT_RATES,
    ),
    _technique(
        id="zoneout",
        target="harness_dropout.recurrent:Zoneout",
        summary="units of the state keep their previous value",
        reference="arXiv:1606.01305",
        params={"rate": 0.5, "hidden_ratio": 0.1},
        space=_HIGHER,
    ),
)


_SCHEDULES_AND_PASSES = (
    _technique(
        id="early",
        target="harness_dropout.schedules:Early",
        summary="dropout that falls to 0 over the first half of training",
        reference="arXiv:2303.01500",
        params={**_UNITS, "part": 0.5},
        space=_RATES,
    ),
    _technique(
        id="late",
        target="harness_dropout.schedules:Late",
        summary="dropout after the first quarter of training",
        reference="arXiv:2303.01500",
        params={**_UNITS, "part": 0.25},
        space=_RATES,
    ),
    _technique(
        id="curriculum",
        target="harness_dropout.schedules:Curriculum",
        summary="dropout that rises from 0 to its rate",
        reference="arXiv:1703.06229",
        params={**_UNITS, "gamma": 10.0},
        space=_RATES,
    ),
    _technique(
        id="r-drop",
        target="harness_dropout.passes:RDrop",
        summary="two passes with dropout, held together by their divergence",
        reference="arXiv:2106.14448",
        params={"alpha": 1.0, **_UNITS},
        space={"alpha": [0.1, 0.3, 1.0, 3.0]},
    ),
    _technique(
        id="mc-dropout",
        target="harness_dropout.passes:MonteCarlo",
        summary="dropout at test time too: the mean of 50 passes",
        reference="arXiv:1506.02142",
        params={**_UNITS, "passes": 50},
        space=_RATES,
    ),
)


_RIVALS = (
    _technique(
        id="weight-decay",
        target="harness_dropout.penalties:WeightDecay",
        summary="decoupled weight decay",
        reference="arXiv:1711.05101",
        params={"strength": 1.0},
        space={"strength": [0.3, 1.0, 3.0, 10.0]},
    ),
    _technique(
        id="l1",
        target="harness_dropout.penalties:L1",
        summary="the sum of |w| in the loss",
        reference="https://doi.org/10.1111/j.2517-6161.1996.tb02080.x",
        params={"strength": 1e-3},
        space={"strength": [1e-4, 3e-4, 1e-3, 3e-3]},
    ),
    _technique(
        id="max-norm",
        target="harness_dropout.constraints:MaxNorm",
        summary="the norm of a unit's incoming weights is bounded",
        reference="https://doi.org/10.1007/11503415_37",
        params={"bound": 1.0},
        space={"bound": [0.5, 0.7, 1.0, 1.5]},
    ),
    _technique(
        id="dropout-max-norm",
        target="harness_dropout.constraints:DropoutMaxNorm",
        summary="dropout with bounded weights",
        reference=_JMLR,
        params={**_UNITS, "bound": 1.0},
        space=_RATES,
    ),
    _technique(
        id="mixup",
        target="harness_dropout.penalties:Mixup",
        summary="convex combinations of pairs of examples",
        reference="arXiv:1710.09412",
        params={"strength": 1.0},
        space={"strength": [0.2, 1.0, 8.0, 64.0]},
    ),
    _technique(
        id="label-smoothing",
        target="harness_dropout.penalties:LabelSmoothing",
        summary="targets mixed with the uniform distribution",
        reference="arXiv:1512.00567",
        params={"strength": 0.1},
        space={"strength": [0.05, 0.1, 0.3, 0.6]},
    ),
    _technique(
        id="confidence-penalty",
        target="harness_dropout.penalties:ConfidencePenalty",
        summary="the entropy of the predictions is rewarded",
        reference="arXiv:1701.06548",
        params={"strength": 0.3},
        space={"strength": [0.1, 0.3, 1.0, 3.0]},
    ),
    _technique(
        id="gradient-noise",
        target="harness_dropout.penalties:GradientNoise",
        summary="normal noise on the gradient, fading as t^-0.55",
        reference="arXiv:1511.06807",
        params={"strength": 0.01},
        space={"strength": [1e-3, 3e-3, 1e-2, 3e-2]},
    ),
    _technique(
        id="ghost-batchnorm",
        target="harness_dropout.constraints:GhostBatchNorm",
        summary="batch normalisation over a few examples at a time",
        reference="arXiv:1705.08741",
        params={"size": 10},
        space={"size": [5, 10, 25, 50]},
    ),
    _technique(
        id="weight-compander",
        target="harness_dropout.weights:WeightCompander",
        summary="weights are a arctan(v / b): bounded, and steep around zero",
        reference="arXiv:2306.16993",
        params={"headroom": 1.5, "slope": 1.0},
        space={"headroom": [1.02, 1.1, 1.5, 2.5]},
    ),
    _technique(
        id="early-stopping",
        target="harness_dropout.constraints:EarlyStopping",
        summary="training ends when the validation loss has stopped falling",
        reference="https://doi.org/10.1007/3-540-49430-8_3",
        params={"patience": 4},
        space={"patience": [1, 2, 4, 8]},
    ),
)


@hookimpl
def register_techniques() -> Sequence[Technique]:
    """Declare every technique, each with four values of the parameter that matters most."""
    return [*_ON_UNITS, *_PARTS, *_RECURRENT, *_SCHEDULES_AND_PASSES, *_RIVALS]
