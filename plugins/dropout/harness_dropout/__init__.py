"""Dropout, its variants and the rivals it competes with, for the contract ``regularize``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from harness.api import Json, Technique, hookimpl

__version__ = "0.2.0"

HARNESS_API = 1


def _technique(
    id: str,  # noqa: A002  the word of harness.api.Technique
    target: str,
    summary: str,
    reference: str,
    params: Mapping[str, Json],
    space: Mapping[str, Sequence[Json]],
) -> Technique:
    return Technique(
        id=id,
        contract="regularize",
        target=f"harness_dropout.{target}",
        summary=summary,
        reference=reference,
        params=params,
        space=space,
    )


_RATES = {"rate": [0.2, 0.35, 0.5, 0.65]}
_HIGHER = {"rate": [0.35, 0.5, 0.65, 0.8]}
_UNITS = {"rate": 0.5, "input_ratio": 0.4}
_JMLR = "https://jmlr.org/papers/v15/srivastava14a.html"


@hookimpl
def register_techniques() -> Sequence[Technique]:
    """Declare every technique, each with four values of the parameter that matters most."""
    return [*_units(), *_parts(), *_recurrent(), *_schedules_and_passes(), *_rivals()]


def _units() -> list[Technique]:
    return [
        Technique(
            id="none",
            contract="regularize",
            target="harness_dropout.base:Regularizer",
            summary="no regularisation: the baseline",
        ),
        _technique("dropout", "activations:Dropout", "x m / q on inputs and hidden units", _JMLR, _UNITS, _RATES),
        _technique("srivastava", "activations:Srivastava", "x m in training, x q at test", _JMLR, _UNITS, _RATES),
        _technique("gaussian", "activations:Gaussian", "x (1 + sqrt(p / q) e)", _JMLR, _UNITS, _HIGHER),
        _technique(
            "dropconnect",
            "weights:DropConnect",
            "weights are dropped; inference matches moments",
            "https://proceedings.mlr.press/v28/wan13.html",
            {"rate": 0.5, "masks": 5, "inference": "moments"},
            _HIGHER,
        ),
        _technique(
            "alpha",
            "activations:Alpha",
            "SELU; dropped units take its floor, mean and variance stay",
            "arXiv:1706.02515",
            {"rate": 0.3},
            {"rate": [0.1, 0.3, 0.5, 0.7]},
        ),
        _technique(
            "variational",
            "learned:Variational",
            "Gaussian weight noise of learned size, by local reparameterisation",
            "arXiv:1506.02557",
            {"rate": 0.3, "kl": 0.1},
            {"rate": [0.05, 0.15, 0.3, 0.5]},
        ),
        _technique(
            "concrete",
            "learned:Concrete",
            "dropout whose rates are learned through a concrete relaxation",
            "arXiv:1705.07832",
            {"rate": 0.2, "length": 0.1, "kl": 1.0, "temperature": 0.1, "speed": 10.0},
            {"kl": [0.3, 1.0, 3.0, 10.0]},
        ),
        _technique(
            "standout",
            "activations:Standout",
            "a unit is kept with probability sigmoid(alpha W x + beta)",
            "https://papers.nips.cc/paper/5032-adaptive-dropout-for-training-deep-neural-networks",
            {"alpha": 1.0, "beta": 0.0},
            {"beta": [-2.0, -1.0, 0.0, 1.0]},
        ),
        _technique(
            "importance-weighted",
            "activations:ImportanceWeighted",
            "x m / q_j, q_j growing with the unit's importance",
            "arXiv:1611.06440",
            {"rate": 0.5, "spread": 0.9, "input_ratio": 0.4},
            _RATES,
        ),
    ]


def _parts() -> list[Technique]:
    small = {"rate": [0.05, 0.1, 0.2, 0.3]}
    deep = {"rate": [0.1, 0.2, 0.4, 0.6]}
    return [
        _technique("spatial", "maps:Spatial", "channels dropped as a whole", "arXiv:1411.4280", {"rate": 0.1}, small),
        _technique(
            "dropblock",
            "maps:DropBlock",
            "squares of feature maps dropped, at a rate that is ramped up",
            "arXiv:1810.12890",
            {"rate": 0.1, "block": 7},
            small,
        ),
        _technique(
            "droppath", "branches:DropPath", "residual branches dropped", "arXiv:1603.09382", {"rate": 0.2}, deep
        ),
        _technique("layerdrop", "branches:LayerDrop", "layers skipped", "arXiv:1909.11556", {"rate": 0.2}, deep),
    ]


def _recurrent() -> list[Technique]:
    rates = {"rate": [0.1, 0.25, 0.4, 0.55]}
    return [
        _technique(
            "rnn-variational",
            "recurrent:RnnVariational",
            "one mask a sequence on x_t and h_(t-1)",
            "arXiv:1512.05287",
            {"rate": 0.25},
            rates,
        ),
        _technique(
            "rnn-fresh",
            "recurrent:RnnFresh",
            "a new mask at every step: what one mask a sequence has to beat",
            "arXiv:1512.05287",
            {"rate": 0.25},
            rates,
        ),
        _technique(
            "zoneout",
            "recurrent:Zoneout",
            "units of the state keep their previous value",
            "arXiv:1606.01305",
            {"rate": 0.5, "hidden_ratio": 0.1},
            _HIGHER,
        ),
    ]


def _schedules_and_passes() -> list[Technique]:
    return [
        _technique(
            "early",
            "schedules:Early",
            "dropout that falls to 0 over the first half of training",
            "arXiv:2303.01500",
            {**_UNITS, "part": 0.5},
            _RATES,
        ),
        _technique(
            "late",
            "schedules:Late",
            "dropout after the first quarter of training",
            "arXiv:2303.01500",
            {**_UNITS, "part": 0.25},
            _RATES,
        ),
        _technique(
            "curriculum",
            "schedules:Curriculum",
            "dropout that rises from 0 to its rate",
            "arXiv:1703.06229",
            {**_UNITS, "gamma": 10.0},
            _RATES,
        ),
        _technique(
            "r-drop",
            "passes:RDrop",
            "two passes with dropout, held together by their divergence",
            "arXiv:2106.14448",
            {"alpha": 1.0, **_UNITS},
            {"alpha": [0.1, 0.3, 1.0, 3.0]},
        ),
        _technique(
            "mc-dropout",
            "passes:MonteCarlo",
            "dropout at test time too: the mean of 50 passes",
            "arXiv:1506.02142",
            {**_UNITS, "passes": 50},
            _RATES,
        ),
    ]


def _rivals() -> list[Technique]:
    return [
        _technique(
            "weight-decay",
            "penalties:WeightDecay",
            "decoupled weight decay",
            "arXiv:1711.05101",
            {"strength": 1.0},
            {"strength": [0.3, 1.0, 3.0, 10.0]},
        ),
        _technique(
            "l1",
            "penalties:L1",
            "the sum of |w| in the loss",
            "https://doi.org/10.1111/j.2517-6161.1996.tb02080.x",
            {"strength": 1e-3},
            {"strength": [1e-4, 3e-4, 1e-3, 3e-3]},
        ),
        _technique(
            "max-norm",
            "constraints:MaxNorm",
            "the norm of a unit's incoming weights is bounded",
            "https://doi.org/10.1007/11503415_37",
            {"bound": 1.0},
            {"bound": [0.5, 0.7, 1.0, 1.5]},
        ),
        _technique(
            "dropout-max-norm",
            "constraints:DropoutMaxNorm",
            "dropout with bounded weights",
            _JMLR,
            {**_UNITS, "bound": 1.0},
            _RATES,
        ),
        _technique(
            "mixup",
            "penalties:Mixup",
            "convex combinations of pairs of examples",
            "arXiv:1710.09412",
            {"strength": 1.0},
            {"strength": [0.2, 1.0, 8.0, 64.0]},
        ),
        _technique(
            "label-smoothing",
            "penalties:LabelSmoothing",
            "targets mixed with the uniform distribution",
            "arXiv:1512.00567",
            {"strength": 0.1},
            {"strength": [0.05, 0.1, 0.3, 0.6]},
        ),
        _technique(
            "confidence-penalty",
            "penalties:ConfidencePenalty",
            "the entropy of the predictions is rewarded",
            "arXiv:1701.06548",
            {"strength": 0.3},
            {"strength": [0.1, 0.3, 1.0, 3.0]},
        ),
        _technique(
            "gradient-noise",
            "penalties:GradientNoise",
            "normal noise on the gradient, fading as t^-0.55",
            "arXiv:1511.06807",
            {"strength": 0.01},
            {"strength": [1e-3, 3e-3, 1e-2, 3e-2]},
        ),
        _technique(
            "ghost-batchnorm",
            "constraints:GhostBatchNorm",
            "batch normalisation over a few examples at a time",
            "arXiv:1705.08741",
            {"size": 10},
            {"size": [5, 10, 25, 50]},
        ),
        _technique(
            "weight-compander",
            "weights:WeightCompander",
            "weights are a arctan(v / b): bounded, and steep around zero",
            "arXiv:2306.16993",
            {"headroom": 1.5, "slope": 1.0},
            {"headroom": [1.02, 1.1, 1.5, 2.5]},
        ),
        _technique(
            "early-stopping",
            "constraints:EarlyStopping",
            "training ends when the validation loss has stopped falling",
            "https://doi.org/10.1007/3-540-49430-8_3",
            {"patience": 4},
            {"patience": [1, 2, 4, 8]},
        ),
    ]
