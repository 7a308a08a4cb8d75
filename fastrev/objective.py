"""What a model of one's own has to offer."""

from __future__ import annotations

from typing import Protocol, runtime_checkable

import numpy.typing as npt

from fastrev._engine.types import FloatArray


@runtime_checkable
class Objective(Protocol):
    """Whatever is to be trained, as functions of flat parameter vectors: plain NumPy in and out.

    Wherever an `MLP` goes, any object goes that has the members below; nothing needs to be inherited.
    `fastrev.interop.jax.objective` makes one from a loss in JAX, likewise ``.torch`` and ``.autograd``.

    Attributes
    ----------
    num_params : int
        P, the length of a parameter vector.
    groups : mapping of str to slice, optional
        Parameter groups, which may have learning rates and decays of their own: slices that follow each other from 0 to
        P.  Default: one group of all.
    theta : mapping of str to array_like, optional
        Its own hyperparameters, of any shapes: what the gradient depends on beside w and t.  ``wrt=("theta", ...)``
        differentiates by them.

    Methods
    -------
    grad(w, t)
        Gradient (P,) of step t = 0, 1, ... at the weights w (P,).  It is asked for twice, on the way there and on the
        way back, and must return the same bits.
    hvp(w, u, t)
        Hessian of the same loss at w times u: (P,).  Needed for derivatives; a run is taken back without.
    cross(w, u, t)
        With `theta`: a dict of the derivatives of ``grad(w, t) . u`` by each, in their shapes.
    hvp_and_cross(w, u, t)
        Optional: both at once, as a pair, where that takes less time.
    with_theta(theta)
        Optional: the same objective with other values of `theta`.  `check_meta_grad` and `tune` ask for it; without it,
        a ``copy.copy`` of the object is given another attribute `theta`.
    with_seed(seed)
        Optional: the same objective with its random numbers, such as batches, drawn by another seed.  `tune` asks for
        it before every run; without it, runs differ by their initial weights alone.

    Notes
    -----
    The arrays given are float64 and nobody else's; what is returned is copied and may be float64 or float32.  A NaN or
    an infinity in a gradient refuses the step (`DivergenceError`).  After an exception on the way back the run is
    whole: `Run.rewind` takes it back from there.  `grad`, `hvp` and `cross` are to read their hyperparameters from
    `self.theta` at every call, for whoever moves it.

    Examples
    --------
    Ridge regression with the penalty as a hyperparameter:

    >>> import numpy as np, fastrev
    >>> class Ridge:
    ...     def __init__(self, X, y, penalty):
    ...         self.X, self.y, self.theta = X, y, {"penalty": np.array(penalty)}
    ...         self.num_params = X.shape[1]
    ...     def grad(self, w, t):
    ...         return self.X.T @ (self.X @ w - self.y) + self.theta["penalty"] * w
    ...     def hvp(self, w, u, t):
    ...         return self.X.T @ (self.X @ u) + self.theta["penalty"] * u
    ...     def cross(self, w, u, t):
    ...         return {"penalty": w @ u}
    >>> rng = np.random.default_rng(0)
    >>> X, y = rng.standard_normal((20, 3)), rng.standard_normal(20)
    >>> model = Ridge(X[:10], y[:10], penalty=0.1)
    >>> def valid(w):
    ...     error = X[10:] @ w - y[10:]
    ...     return error @ error / 2, X[10:].T @ error
    >>> result = fastrev.meta_grad(model, np.zeros(3), valid=valid, lr=0.05, decay=0.8, steps=50)
    >>> result.grad.theta["penalty"].shape, result.stats.exact
    ((), True)
    """

    num_params: int

    def grad(self, w: FloatArray, t: int) -> npt.ArrayLike:
        """Gradient (P,) of step t at the weights w (P,)."""

    def hvp(self, w: FloatArray, u: FloatArray, t: int) -> npt.ArrayLike:
        """Hessian of step t at w times u, (P,)."""
