"""Losses written in JAX, PyTorch or autograd, as objectives that fastrev trains and differentiates.

Each module has a function ``objective(loss, params, theta)``, and imports its library when that is called.  Those of
PyTorch and JAX have ``validation_loss(model, w0, ...)`` besides: a whole training as a node of their graphs.

Examples
--------
The gradient of a validation loss by the learning rates and the penalty that a linear model was trained with:

>>> import numpy as np, fastrev
>>> from fastrev.interop import jax
>>> rng = np.random.default_rng(0)
>>> X, y = rng.standard_normal((2, 20, 3)), rng.standard_normal((2, 20))
>>> def error(params, rows):
...     return ((X[rows] @ params["w"] + params["b"] - y[rows]) ** 2).mean()
>>> params = {"w": np.zeros(3, np.float32), "b": np.float32(0)}
>>> train, w0 = jax.objective(
...     lambda params, theta, t: error(params, 0) + theta["l2"] * (params["w"] ** 2).sum(), params, {"l2": 0.01})
>>> valid, _ = jax.objective(lambda params, theta, t: error(params, 1), params)
>>> result = fastrev.meta_grad(
...     train, w0, valid=lambda w: valid.loss_and_grad(w, 0), lr=np.full(50, 0.1), decay=0.9, wrt=("lr", "theta"))
>>> result.grad.lr.shape, result.grad.theta.keys()
((50,), dict_keys(['l2']))
>>> train.unflatten(result.w)["w"].shape
(3,)
"""

from fastrev.interop import autograd as autograd
from fastrev.interop import jax as jax
from fastrev.interop import torch as torch
from fastrev.interop._shared import LossObjective as LossObjective

__all__ = ["LossObjective", "autograd", "jax", "torch"]
