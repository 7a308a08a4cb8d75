"""Losses written in JAX, PyTorch or autograd, as objectives that fastrev trains and differentiates.

Each module has one function, ``objective(loss, params, theta)``, and imports its library when that is called.
"""

from fastrev.interop import autograd as autograd
from fastrev.interop import jax as jax
from fastrev.interop import torch as torch

__all__ = ["autograd", "jax", "torch"]
