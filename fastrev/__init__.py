"""Exact meta-gradients through training (Maclaurin, Duvenaud, Adams, ICML 2015).

`meta_grad` trains an `MLP`, or any `Objective`, takes the training back bit for bit and differentiates a validation
loss on the way; `check_meta_grad` and `metasmoothness` tell whether that is right, and means anything.  `train` and
`Run.pullback` do the same for any loss of the final weights, `ReversibleSGD` for gradients from anywhere, step by step,
and `ReversibleArray` is the exact arithmetic by itself, in which a `ratio` stands for a decay.  `tune` learns
hyperparameters, `attribute` says which training data decided a prediction.  `threads` sets how many threads a run may
use, `compile` compiles beforehand.  `fastrev.interop` makes objectives of losses in JAX, PyTorch and autograd;
`fastrev.testing` is for property tests.
"""

from fastrev._engine.rooms import __getattr__ as __getattr__
from fastrev._engine.version import __version__ as __version__
from fastrev.attribution import attribute as attribute
from fastrev.attribution_check import AttributionCheck as AttributionCheck
from fastrev.attribution_results import Attribution as Attribution
from fastrev.attribution_results import TopExamples as TopExamples
from fastrev.batches import minibatches as minibatches
from fastrev.checking import check_meta_grad as check_meta_grad
from fastrev.errors import ArgumentError as ArgumentError
from fastrev.errors import ChaosWarning as ChaosWarning
from fastrev.errors import DivergenceError as DivergenceError
from fastrev.errors import FastrevError as FastrevError
from fastrev.errors import MissingExtraError as MissingExtraError
from fastrev.errors import ReversalError as ReversalError
from fastrev.errors import StorageError as StorageError
from fastrev.errors import TrainingInterrupt as TrainingInterrupt
from fastrev.forecasting import forecast as forecast
from fastrev.forecasts import Forecast as Forecast
from fastrev.loading import load as load
from fastrev.meta_gradient import meta_grad as meta_grad
from fastrev.minimizing import minimize as minimize
from fastrev.mlp import MLP as MLP
from fastrev.objective import Objective as Objective
from fastrev.optimizers import SGD as SGD
from fastrev.optimizers import Adam as Adam
from fastrev.precompiling import compile as compile
from fastrev.ratios import ratio as ratio
from fastrev.results import AdamPullback as AdamPullback
from fastrev.results import Curve as Curve
from fastrev.results import Gradients as Gradients
from fastrev.results import MetaGradient as MetaGradient
from fastrev.results import Stats as Stats
from fastrev.results import StepPullback as StepPullback
from fastrev.reversible_adam import ReversibleAdam as ReversibleAdam
from fastrev.reversible_array import ReversibleArray as ReversibleArray
from fastrev.reversible_sgd import ReversibleSGD as ReversibleSGD
from fastrev.runs import Run as Run
from fastrev.settings import threads as threads
from fastrev.smoothness import metasmoothness as metasmoothness
from fastrev.training import train as train
from fastrev.tuning import tune as tune
from fastrev.tuning_results import History as History
from fastrev.tuning_results import MinimizeResult as MinimizeResult
from fastrev.tuning_results import TuneResult as TuneResult
from fastrev.verdicts import HyperparameterCheck as HyperparameterCheck
from fastrev.verdicts import MetaGradientCheck as MetaGradientCheck
from fastrev.verdicts import TermCheck as TermCheck

__all__ = [
    "MLP",
    "SGD",
    "Adam",
    "AdamPullback",
    "ArgumentError",
    "Attribution",
    "AttributionCheck",
    "ChaosWarning",
    "Curve",
    "DivergenceError",
    "FastrevError",
    "Forecast",
    "Gradients",
    "History",
    "HyperparameterCheck",
    "MetaGradient",
    "MetaGradientCheck",
    "MinimizeResult",
    "MissingExtraError",
    "Objective",
    "ReversalError",
    "ReversibleAdam",
    "ReversibleArray",
    "ReversibleSGD",
    "Run",
    "Stats",
    "StepPullback",
    "StorageError",
    "TermCheck",
    "TopExamples",
    "TrainingInterrupt",
    "TuneResult",
    "attribute",
    "check_meta_grad",
    "compile",
    "forecast",
    "load",
    "meta_grad",
    "metasmoothness",
    "minibatches",
    "minimize",
    "ratio",
    "threads",
    "train",
    "tune",
]
