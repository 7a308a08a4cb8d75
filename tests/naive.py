"""Naive references: slow, written with loops, and meant to stay that way.

Nothing here is shared with the package.  Two halves:

* exact arithmetic on Python integers, which cannot overflow and need no care about float64;
* an oracle for derivatives: the training unrolled and differentiated by HIPS autograd, which knows nothing of
  reversal.

References
----------
.. [1] D. Maclaurin, D. Duvenaud, R. P. Adams, "Gradient-based Hyperparameter Optimization through Reversible
   Learning", ICML 2015, arXiv:1502.03492.
.. [2] J. Duda, "Asymmetric numeral systems", 2013, arXiv:1311.2540.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from fractions import Fraction
from itertools import pairwise
from typing import Any

import autograd
import autograd.numpy as anp
import numpy as np
import numpy.typing as npt
from autograd.extend import defvjp, primitive
from autograd.scipy.special import logsumexp

FRACTION_BITS = 52
MAX_DENOMINATOR = 2**16
LOW = 2**16  # heads of the streaming buffer are in [LOW, BASE * LOW)
BASE = 2**16  # words of its tail are in [0, BASE)
START = 2**24  # a fresh head, and the fresh information of a big-integer buffer

# An array or a number that autograd may be tracing.
Array = Any
Floats = npt.NDArray[np.float64]


# ------------------------------------------------------------------------------------------------------------
# Exact arithmetic
# ------------------------------------------------------------------------------------------------------------


def to_grid(x: float, fraction_bits: int = FRACTION_BITS) -> int:
    """The float in units of ``2**-fraction_bits``, rounded half to even."""
    return round(Fraction(float(x)) * (1 << fraction_bits))


def from_grid(c: int, fraction_bits: int = FRACTION_BITS) -> float:
    """The nearest float64 to the integer, then scaled exactly."""
    return math.ldexp(float(c), -fraction_bits)


def decay_ratio(gamma: float) -> tuple[int, int]:
    """n, d of the best rational to a decay with d <= 2**16."""
    ratio = Fraction(float(gamma)).limit_denominator(MAX_DENOMINATOR)
    return ratio.numerator, ratio.denominator


def exchange_digits(c: int, i: int, pushed: int, popped: int) -> tuple[int, int]:
    """Push ``c mod pushed`` on i and pop a digit modulo `popped` from it; swapping the two undoes it.

    [1]_, Algorithm 3.  Floor division, also of negative c.
    """
    i = i * pushed + c % pushed
    c = c // pushed * popped + i % popped
    i = i // popped
    return c, i


class BigIntegerBuffer:
    """Multiplication by n/d that loses nothing, as published: [1]_, Algorithm 3.

    Parameters
    ----------
    values : (P,) ints
        Grid integers of any size.
    start : int
        The information that each parameter begins with.
    """

    def __init__(self, values: Sequence[int], start: int = START) -> None:
        self.values = [int(c) for c in values]
        self.start = start
        self.information = [start] * len(self.values)

    def multiply(self, n: int, d: int) -> None:
        """Multiply every value by n/d."""
        n, d = int(n), int(d)
        for p in range(len(self.values)):
            self.values[p], self.information[p] = exchange_digits(self.values[p], self.information[p], d, n)

    def divide(self, n: int, d: int) -> None:
        """Undo `multiply`."""
        n, d = int(n), int(d)
        for p in range(len(self.values)):
            self.values[p], self.information[p] = exchange_digits(self.values[p], self.information[p], n, d)

    def information_bits(self) -> float:
        """What has been stored since the start."""
        return sum(math.log2(i) - math.log2(self.start) for i in self.information)


class StreamingBuffer:
    """The same with bounded integers: each parameter keeps a head, all of them spill words to one tail.

    As in a streaming asymmetric numeral system [2]_, a head that grows to bL or more pushes its low word.
    The undo tells from the head that was left: below floor(L d / n) it had spilled, above it had not.  A head
    of just that value had not if n divides L d; otherwise it may have, and a flag word, 1 for a spill, tells.

    Parameters
    ----------
    values : (P,) ints
        Grid integers of any size.
    low, base, start : int
        L, b and the first head of every parameter.  Ratios n/d need d/n <= b.
    """

    def __init__(self, values: Sequence[int], low: int = LOW, base: int = BASE, start: int = START) -> None:
        self.values = [int(c) for c in values]
        self.low, self.base, self.start = low, base, start
        self.heads = [start] * len(self.values)
        self.tail: list[int] = []
        self._check_heads()

    def multiply(self, n: int, d: int, start: int = 0, stop: int | None = None) -> None:
        """Multiply ``values[start:stop]`` by n/d, in ascending order."""
        n, d = int(n), int(d)
        assert 0 < n <= d <= n * self.base
        if n == d:
            return
        for p in range(len(self.values))[start:stop]:
            self.values[p], h = exchange_digits(self.values[p], self.heads[p], d, n)
            spilled = h >= self.base * self.low
            if spilled:
                self.tail.append(h % self.base)
                h = h // self.base
            if self.is_ambiguous(h, n, d):
                self.tail.append(1 if spilled else 0)
            self.heads[p] = h
        self._check_heads()

    def divide(self, n: int, d: int, start: int = 0, stop: int | None = None) -> None:
        """Undo `multiply`, in descending order.  Raises IndexError where the tail has no word left."""
        n, d = int(n), int(d)
        assert 0 < n <= d <= n * self.base
        if n == d:
            return
        for p in reversed(range(len(self.values))[start:stop]):
            h = self.heads[p]
            if self.is_ambiguous(h, n, d):
                spilled = self.tail.pop() == 1
            else:
                spilled = h < self.low * d // n
            if spilled:
                h = h * self.base + self.tail.pop()
            self.values[p], self.heads[p] = exchange_digits(self.values[p], h, n, d)
        self._check_heads()

    def is_ambiguous(self, head: int, n: int, d: int) -> bool:
        """Whether a multiplication by n/d can have left this head both with a spill and without."""
        return head == self.low * d // n and self.low * d % n != 0

    def information_bits(self, word_bits: float | None = None) -> float:
        """What has been stored since the start; a word, flags too, counts ``log2(base)`` by default."""
        if word_bits is None:
            word_bits = math.log2(self.base)
        return word_bits * len(self.tail) + sum(math.log2(h) - math.log2(self.start) for h in self.heads)

    def _check_heads(self) -> None:
        assert all(self.low <= h < self.base * self.low for h in self.heads), self.heads


class NaiveSGD:
    """SGD with momentum on the grid, undone exactly: [1]_, Algorithms 1-3.

        v <- (n/d) v - (1 - n/d) g        w <- w + lr v        with the new v

    Undone exactly is not rounded well: a product with n/d is up to n grid units off, since its low digit is
    what the information buffer held.

    Parameters
    ----------
    w0, v0 : (P,) floats
        v0 is zero by default.
    groups : pairs (start, stop), optional
        Consecutive ranges of parameters.  ``lr``, ``n`` and ``d`` of the methods are then numbers, or
        sequences of one number per group; without groups, numbers or sequences of one per parameter.

    Attributes
    ----------
    w, v : lists of P ints
        Grid integers.
    buffer : StreamingBuffer
        Holds v.
    """

    def __init__(
        self,
        w0: Sequence[float],
        v0: Sequence[float] | None = None,
        groups: Sequence[tuple[int, int]] | None = None,
    ) -> None:
        self.w = [to_grid(x) for x in w0]
        self.buffer = StreamingBuffer([0] * len(self.w) if v0 is None else [to_grid(x) for x in v0])
        # A group of each parameter's own walks the buffer in the same order as one group of all.
        self.groups = [(p, p + 1) for p in range(len(self.w))] if groups is None else list(groups)

    @property
    def v(self) -> list[int]:
        """The velocity, as grid integers."""
        return self.buffer.values

    def step(self, g: Sequence[float], lr: Any, n: Any, d: Any) -> None:
        """One step with the gradient g (P,), first group first."""
        for (start, stop), alpha, n_, d_ in self._by_group(lr, n, d):
            self.buffer.multiply(n_, d_, start, stop)
            for p in range(start, stop):
                self.v[p] -= to_grid((1.0 - n_ / d_) * float(g[p]))
            for p in range(start, stop):
                self.w[p] += to_grid(alpha * from_grid(self.v[p]))

    def unstep(self, g: Sequence[float], lr: Any, n: Any, d: Any) -> None:
        """Undo `step`, last group first."""
        self.undo_position(lr)
        self.undo_velocity(g, n, d)

    def undo_position(self, lr: Any) -> None:
        """The first half of `unstep`: w is then where the step's gradient was taken."""
        for (start, stop), alpha, _, _ in reversed(self._by_group(lr, 1, 1)):
            for p in range(start, stop):
                self.w[p] -= to_grid(alpha * from_grid(self.v[p]))

    def undo_velocity(self, g: Sequence[float], n: Any, d: Any) -> None:
        """The second half of `unstep`."""
        for (start, stop), _, n_, d_ in reversed(self._by_group(0.0, n, d)):
            for p in range(start, stop):
                self.v[p] += to_grid((1.0 - n_ / d_) * float(g[p]))
            self.buffer.divide(n_, d_, start, stop)

    def _by_group(self, lr: Any, n: Any, d: Any) -> list[tuple[tuple[int, int], float, int, int]]:
        """(start, stop), lr, n, d of every group."""
        count = len(self.groups)
        lrs, ns, ds = ([x] * count if np.ndim(x) == 0 else list(x) for x in (lr, n, d))
        rows = zip(self.groups, lrs, ns, ds, strict=True)
        return [(group, float(alpha), int(n_), int(d_)) for group, alpha, n_, d_ in rows]


# ------------------------------------------------------------------------------------------------------------
# Derivatives
# ------------------------------------------------------------------------------------------------------------


def snap(decay: npt.ArrayLike) -> Floats:
    """Each decay as the float n/d of its `decay_ratio`, in the same shape."""
    decay = np.asarray(decay, np.float64)
    ratios = [decay_ratio(gamma) for gamma in decay.ravel()]
    return np.array([n / d for n, d in ratios]).reshape(decay.shape)


def group_widths(sizes: Sequence[int]) -> list[int]:
    """How many parameters W1, b1, W2, b2, ... have: 2 groups for each layer."""
    return [width for a, b in pairwise(sizes) for width in (a * b, b)]


def unflatten(w: Array, sizes: Sequence[int]) -> list[tuple[Array, Array]]:
    """(W, b) of every layer, W (in, out) row-major, from w (P,) = W1, b1, W2, b2, ..."""
    layers = []
    at = 0
    for a, b in pairwise(sizes):
        weights = anp.reshape(w[at : at + a * b], (a, b))
        at += a * b
        biases = w[at : at + b]
        at += b
        layers.append((weights, biases))
    assert at == len(w)
    return layers


# autograd's own tanh divides by cosh**2, which overflows into NaN in second derivatives from |z| = 178 on.
_tanh = primitive(np.tanh)
defvjp(_tanh, lambda a, z: lambda g: g * (1.0 - a * a))


def _softplus(z: Array) -> Array:
    return anp.logaddexp(0.0, z)


def _sigmoid(z: Array) -> Array:
    return anp.exp(-_softplus(-z))


def _relu(z: Array) -> Array:
    return anp.where(z > 0.0, z, 0.0)  # its derivative at 0 is 0


def _identity(z: Array) -> Array:
    return z


ACTIVATIONS: dict[str, Callable[[Array], Array]] = {
    "tanh": _tanh,
    "sigmoid": _sigmoid,
    "relu": _relu,
    "softplus": _softplus,
    "identity": _identity,
}


def outputs(w: Array, x: Array, sizes: Sequence[int], activation: str = "tanh") -> Array:
    """The network's outputs (N, K) for x (N, D); the last layer has no activation."""
    *hidden, (last_weights, last_biases) = unflatten(w, sizes)
    for weights, biases in hidden:
        x = ACTIVATIONS[activation](anp.dot(x, weights) + biases)
    return anp.dot(x, last_weights) + last_biases


def example_losses(z: Array, y: Array, loss: str = "cross_entropy") -> Array:
    """The loss (N,) of every example for outputs z and targets y, both (N, K).

    Rows of y need not sum to 1 for "cross_entropy".
    """
    if loss == "cross_entropy":
        log_softmax = z - logsumexp(z, axis=1, keepdims=True)
        return -anp.sum(y * log_softmax, axis=1)
    if loss == "squared_error":
        return 0.5 * anp.sum((z - y) ** 2, axis=1)
    if loss == "logistic":
        return anp.sum(anp.logaddexp(0.0, z) - y * z, axis=1)
    raise ValueError(loss)


def objective(
    w: Array,
    x: Array,
    y: Array,
    c: Array,
    l2: Array,
    *,
    sizes: Sequence[int],
    activation: str = "tanh",
    loss: str = "cross_entropy",
) -> Array:
    """What training descends on: mean(c * losses) + 1/2 sum(l2 * w**2).

    w, l2 (P,); x (N, D); y (N, K); c (N,), the weights of the examples.
    """
    losses = example_losses(outputs(w, x, sizes, activation), y, loss)
    return anp.mean(c * losses) + 0.5 * anp.sum(l2 * w * w)


def by_step_and_group(value: Array, steps: int, groups: int) -> Array:
    """A scalar, (T,), (T, 1), (1, G) or (T, G) as (T, G)."""
    if anp.ndim(value) == 1:
        value = anp.reshape(value, (-1, 1))
    return value * np.ones((steps, groups))


def by_parameter(value: Array, sizes: Sequence[int]) -> Array:
    """A scalar, (G,) or (P,) as (P,)."""
    widths = group_widths(sizes)
    if anp.shape(value) == (len(widths),):
        return value[np.repeat(np.arange(len(widths)), widths)]
    return value * np.ones(sum(widths))


def final_state(
    w0: Array,
    v0: Array,
    lr: Array,
    decay: Array,
    l2: Array,
    x: Array,
    y: Array,
    c: Array,
    *,
    batches: Sequence[npt.NDArray[np.int64]] | None = None,
    steps: int | None = None,
    sizes: Sequence[int],
    activation: str = "tanh",
    loss: str = "cross_entropy",
) -> tuple[Array, Array]:
    """The weights and the velocity after the whole training, in plain float64.

        v <- decay v - (1 - decay) g        w <- w + lr v        with the new v

    Parameters
    ----------
    w0, v0 : (P,)
    lr, decay : scalar, (T,), (T, 1), (1, G) or (T, G)
        A decay is used as it is: pass it through `snap` to compare with exact arithmetic.
    l2 : scalar, (G,) or (P,)
    x, y, c : (N, D), (N, K), (N,)
        c are the weights of the examples.
    batches : T arrays of row indices, optional
        All rows at each of `steps` steps if not given.
    """
    if batches is None:
        assert steps is not None
        batches = [np.arange(len(x))] * steps
    assert steps in (None, len(batches))
    lr = by_step_and_group(lr, len(batches), len(group_widths(sizes)))
    decay = by_step_and_group(decay, len(batches), len(group_widths(sizes)))
    l2 = by_parameter(l2, sizes)

    gradient = autograd.grad(objective)
    w, v = w0, v0
    for t, rows in enumerate(batches):
        alpha = by_parameter(lr[t], sizes)
        gamma = by_parameter(decay[t], sizes)
        g = gradient(w, x[rows], y[rows], c[rows], l2, sizes=sizes, activation=activation, loss=loss)
        v = gamma * v - (1.0 - gamma) * g
        w = w + alpha * v
    return w, v


def meta_loss(
    w0: Array,
    v0: Array,
    lr: Array,
    decay: Array,
    l2: Array,
    x: Array,
    y: Array,
    c: Array,
    *,
    batches: Sequence[npt.NDArray[np.int64]] | None = None,
    steps: int | None = None,
    valid: tuple[Floats, Floats],
    sizes: Sequence[int],
    activation: str = "tanh",
    loss: str = "cross_entropy",
) -> Array:
    """The validation loss of the weights of `final_state`: no penalty, every example of weight 1."""
    w, _ = final_state(
        w0, v0, lr, decay, l2, x, y, c,
        batches=batches, steps=steps, sizes=sizes, activation=activation, loss=loss,
    )  # fmt: skip
    xv, yv = valid
    return anp.mean(example_losses(outputs(w, xv, sizes, activation), yv, loss))


ARGUMENTS = ("w0", "v0", "lr", "decay", "l2", "x", "y", "example_weights")  # of `meta_loss`, in order


def meta_gradient(
    w0: npt.ArrayLike,
    v0: npt.ArrayLike | None,
    lr: npt.ArrayLike,
    decay: npt.ArrayLike,
    l2: npt.ArrayLike,
    x: npt.ArrayLike,
    y: npt.ArrayLike,
    c: npt.ArrayLike | None = None,
    *,
    batches: Sequence[npt.NDArray[np.int64]] | None = None,
    steps: int | None = None,
    valid: tuple[Floats, Floats],
    sizes: Sequence[int],
    activation: str = "tanh",
    loss: str = "cross_entropy",
    wrt: Sequence[str] = ("lr", "decay", "w0", "v0", "l2", "x", "y", "example_weights"),
) -> tuple[float, dict[str, Floats]]:
    """The validation loss and its gradients, each in the shape of its argument.

    For the parameters see `final_state`.  v0 None is zero velocity, c None weighs every example 1.
    """
    v0 = np.zeros(np.shape(w0)) if v0 is None else v0
    c = np.ones(len(np.asarray(x))) if c is None else c
    values = [np.array(value, np.float64) for value in (w0, v0, lr, decay, l2, x, y, c)]

    def of_values(*traced: Array) -> Array:
        return meta_loss(
            *traced,
            batches=batches, steps=steps, valid=valid, sizes=sizes, activation=activation, loss=loss,
        )  # fmt: skip

    argnums = tuple(ARGUMENTS.index(name) for name in wrt)
    value, gradients = autograd.value_and_grad(of_values, argnum=argnums)(*values)
    gradients = {name: np.asarray(gradient) for name, gradient in zip(wrt, gradients, strict=True)}
    for name, gradient in gradients.items():
        assert gradient.shape == values[ARGUMENTS.index(name)].shape, name
    return float(value), gradients
