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
import sys
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
MAX_DENOMINATOR = 2**16  # D
BASE = 2**16  # b: words of a streaming buffer's tail are in [0, b)
START = 0x9E3779B97F  # a fresh head, and the fresh information of a big-integer buffer

# An array or a number that autograd may be tracing.
Array = Any
Floats = npt.NDArray[np.float64]


# ------------------------------------------------------------------------------------------------------------
# Exact arithmetic
# ------------------------------------------------------------------------------------------------------------


def to_grid(x: float, fraction_bits: int = FRACTION_BITS) -> int:
    """Round the float to units of ``2**-fraction_bits``, half to even."""
    return round(Fraction(float(x)) * (1 << fraction_bits))


def from_grid(c: int, fraction_bits: int = FRACTION_BITS) -> float:
    """Round the integer to the nearest float64, then scale exactly."""
    return math.ldexp(float(c), -fraction_bits)


def decay_ratio(gamma: float) -> tuple[int, int]:
    """n, d of the best rational to a decay with d <= 2**16."""
    ratio = Fraction(float(gamma)).limit_denominator(MAX_DENOMINATOR)
    return ratio.numerator, ratio.denominator


def exchange_digits(c: int, i: int, n: int, d: int) -> tuple[int, int]:
    """Multiply c by n/d as published: push ``c mod d`` on i, then pop a digit modulo n from it.

    [1]_, Algorithm 3.  Swapping n and d undoes it.  The result is up to n off from ``c n / d``.  Floor division, also
    of negative c.
    """
    i = i * d + c % d
    c = c // d * n + i % n
    i = i // n
    return c, i


def rescale(c: int, i: int, n: int, d: int) -> tuple[int, int]:
    """Multiply c by n/d: pop a digit modulo n from i, let it decide the rounding, push the remainder modulo d.

    Swapping n and d undoes it.  The result is less than 1 off from ``c n / d``.
    """
    i, s = divmod(i, n)
    c, r = divmod(c * n + s, d)
    return c, i * d + r


class BigIntegerBuffer:
    """Multiplication by n/d that loses nothing: one integer of any size for each value.

    Parameters
    ----------
    values : (P,) ints
        Grid integers of any size.
    step : function
        `exchange_digits`, the published Algorithm 3 of [1]_, or `rescale`.
    start : int
        The information that each parameter begins with.

    """

    def __init__(
        self,
        values: Sequence[int],
        step: Callable[[int, int, int, int], tuple[int, int]] = exchange_digits,
        start: int = START,
    ) -> None:
        self.values = [int(c) for c in values]
        self.step = step
        self.start = start
        self.information = [start] * len(self.values)

    def multiply(self, n: int, d: int) -> None:
        """Multiply every value by n/d."""
        for p in range(len(self.values)):
            self.values[p], self.information[p] = self.step(self.values[p], self.information[p], int(n), int(d))

    def divide(self, n: int, d: int) -> None:
        """Undo `multiply`."""
        self.multiply(d, n)

    def information_bits(self) -> float:
        """Count the bits stored since the start."""
        return sum(math.log2(i) - math.log2(self.start) for i in self.information)


class StreamingBuffer:
    """`rescale` with bounded integers: each parameter keeps a head, all of them spill words to one tail.

    As in a streaming asymmetric numeral system [2]_, what is large enough pushes its low word: here the head between
    pop and push, k, if the head might otherwise leave [L, H), L = D**2, H = b (D**2 + D).  The undo tells from the k
    that was left: below ``L div n`` it had spilled, above ``(H/b - 1) div n`` it had not, and from one to the other a
    flag word, 1 for a spill, lies on top.

    Parameters
    ----------
    values : (P,) ints
        Grid integers of any size.
    max_denominator, base, start : int
        D, b >= D, and the first head of every parameter.
    tail : list, optional
        That of another buffer, to be shared.

    """

    def __init__(
        self,
        values: Sequence[int],
        max_denominator: int = MAX_DENOMINATOR,
        base: int = BASE,
        start: int = START,
        tail: list[int] | None = None,
    ) -> None:
        assert base >= max_denominator
        self.values = [int(c) for c in values]
        self.max_denominator, self.base, self.start = max_denominator, base, start
        self.low = max_denominator**2
        self.high = base * (max_denominator**2 + max_denominator)
        self.heads = [start] * len(self.values)
        self.tail: list[int] = [] if tail is None else tail
        self._check_heads()

    def multiply(self, n: int, d: int, start: int = 0, stop: int | None = None) -> None:
        """Multiply ``values[start:stop]`` by n/d, in ascending order."""
        n, d = self._ratio(n, d)
        if n == d:
            return
        for p in range(len(self.values))[start:stop]:
            k, s = divmod(self.heads[p], n)
            k = self._spill(k, n, d)
            self.values[p], r = divmod(self.values[p] * n + s, d)
            self.heads[p] = k * d + r
        self._check_heads()

    def divide(self, n: int, d: int, start: int = 0, stop: int | None = None) -> None:
        """Undo `multiply`, in descending order.  Raises IndexError where the tail has no word left."""
        n, d = self._ratio(n, d)
        if n == d:
            return
        for p in reversed(range(len(self.values))[start:stop]):
            k, r = divmod(self.heads[p], d)
            k = self._refill(k, n)
            self.values[p], s = divmod(self.values[p] * d + r, n)
            self.heads[p] = k * n + s
        self._check_heads()

    def _spill(self, k: int, n: int, d: int) -> int:
        spilled = k >= self.high // d
        if spilled:
            k, word = divmod(k, self.base)
            self.tail.append(word)
        if self.is_ambiguous(k, n):
            self.tail.append(1 if spilled else 0)
        return k

    def _refill(self, k: int, n: int) -> int:
        spilled = self.tail.pop() != 0 if self.is_ambiguous(k, n) else k < self.low // n
        if spilled:
            k = k * self.base + self.tail.pop()
        return k

    def is_ambiguous(self, k: int, n: int) -> bool:
        """Whether a multiplication by n/d can have left this k both with a spill and without."""
        return self.low // n <= k <= (self.high // self.base - 1) // n

    def information_bits(self, word_bits: float | None = None) -> float:
        """Count the bits stored since the start; a word, flags too, has ``log2(base)`` by default."""
        if word_bits is None:
            word_bits = math.log2(self.base)
        return word_bits * len(self.tail) + sum(math.log2(h) - math.log2(self.start) for h in self.heads)

    def _ratio(self, n: int, d: int) -> tuple[int, int]:
        assert 0 < n <= d <= self.max_denominator
        return int(n), int(d)

    def _check_heads(self) -> None:
        assert all(self.low <= h < self.high for h in self.heads), self.heads


class NaiveSGD:
    """SGD with momentum on the grid, undone exactly: [1]_, Algorithms 1-3.

        v <- (n/d) v - (1 - n/d) g        w <- w + lr v        with the new v

    A product with n/d is rounded up or down by what the information buffer held, so it is less than one grid unit off.

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
        """Do the first half of `unstep`: w is then where the step's gradient was taken."""
        for (start, stop), alpha, _, _ in reversed(self._by_group(lr, 1, 1)):
            for p in range(start, stop):
                self.w[p] -= to_grid(alpha * from_grid(self.v[p]))

    def undo_velocity(self, g: Sequence[float], n: Any, d: Any) -> None:
        """Do the second half of `unstep`."""
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


SQUARE_BITS = 62  # fraction bits of the second moment


class NaiveAdam:
    """Adam and AdamW on grids, undone exactly, of one group of parameters.

        m <- beta1 m + (1 - beta1) g       s <- beta2 s + (1 - beta2) g**2
        w <- (1 - lr decay) w              w <- w - lr (m / c1) / (sqrt(s / c2 + eps_root) + eps)

    Both moments have a `StreamingBuffer`, which share a tail; the weights are shrunk by four shears with a carry, of
    which a word goes to the same tail where `spills` says so.

    Attributes
    ----------
    w, carry : lists of P ints
    first, second : StreamingBuffer
        Hold m and s.

    """

    def __init__(self, w0: Sequence[float], eps_root: float) -> None:
        self.w = [to_grid(x) for x in w0]
        self.carry = [0] * len(self.w)
        self.first = StreamingBuffer([0] * len(self.w))
        self.second = StreamingBuffer([0] * len(self.w), tail=self.first.tail)
        self.eps_root = eps_root

    @property
    def tail(self) -> list[int]:
        """What both buffers and the carries have spilled."""
        return self.first.tail

    def step(
        self, g: Sequence[float], beta1: tuple[int, int], beta2: tuple[int, int], k: float, spills: bool, **rates: float
    ) -> None:
        """One step with the gradient g (P,); the weights are multiplied by k first."""
        self.first.multiply(*beta1)
        self.second.multiply(*beta2)
        self._kick(g, beta1, beta2, 1)
        for p in range(len(self.w)):
            self.w[p], self.carry[p] = shrink(self.w[p], self.carry[p], k)
        if spills:
            for p in range(len(self.w)):
                self.carry[p], word = divmod(self.carry[p], BASE)
                self.tail.append(word)
        self._move(-1, **rates)

    def unstep(
        self, g: Sequence[float], beta1: tuple[int, int], beta2: tuple[int, int], k: float, spills: bool, **rates: float
    ) -> None:
        """Undo `step`."""
        self._move(1, **rates)
        if spills:
            for p in reversed(range(len(self.w))):
                self.carry[p] = self.carry[p] * BASE + self.tail.pop()
        for p in range(len(self.w)):
            self.w[p], self.carry[p] = grow(self.w[p], self.carry[p], k)
        self._kick(g, beta1, beta2, -1)
        self.second.divide(*beta2)
        self.first.divide(*beta1)

    def _kick(self, g: Sequence[float], beta1: tuple[int, int], beta2: tuple[int, int], sign: int) -> None:
        for p, x in enumerate(map(float, g)):
            self.first.values[p] += sign * to_grid((1.0 - beta1[0] / beta1[1]) * x)
            self.second.values[p] += sign * to_grid((1.0 - beta2[0] / beta2[1]) * (x * x), SQUARE_BITS)

    def _move(self, sign: int, *, lr: float, c1: float, c2: float, eps: float) -> None:
        for p in range(len(self.w)):
            root = math.sqrt(from_grid(self.second.values[p], SQUARE_BITS) * (1.0 / c2) + self.eps_root)
            self.w[p] += sign * to_grid(lr / c1 * from_grid(self.first.values[p]) / (root + eps))


def shrink(c: int, e: int, k: float) -> tuple[int, int]:
    """Multiply c by k and e by 1/k, in four shears, each undone by its own subtraction whatever the rounding."""
    e += c
    c += _times(e, k - 1.0)
    e -= _times(c, 1.0 / k)
    c += _times(e, k - k * k)
    return c, e


def grow(c: int, e: int, k: float) -> tuple[int, int]:
    """Undo `shrink`."""
    c -= _times(e, k - k * k)
    e += _times(c, 1.0 / k)
    c -= _times(e, k - 1.0)
    e -= c
    return c, e


def _times(c: int, x: float) -> int:
    return round(Fraction(float(c) * x))


# ------------------------------------------------------------------------------------------------------------
# Derivatives
# ------------------------------------------------------------------------------------------------------------


def checksum(array: npt.NDArray[np.floating]) -> int:
    """NH of UMAC over words of 64 bits, folded, with the multiples of 2**64 over the golden ratio for keys."""
    content, total = array.tobytes(), 0
    for position in range(0, len(content), 8):
        word = int.from_bytes(content[position : position + 8], sys.byteorder)
        x = (word + (position // 8 + 1) * 0x9E3779B97F4A7C15) % 2**64
        product = (x % 2**32) * (x >> 32)
        total += product ^ (product >> 32)
    return (total + 2**63) % 2**64 - 2**63


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
    """Compute the outputs (N, K) for x (N, D); the last layer has no activation."""
    *hidden, (last_weights, last_biases) = unflatten(w, sizes)
    for weights, biases in hidden:
        x = ACTIVATIONS[activation](anp.dot(x, weights) + biases)
    return anp.dot(x, last_weights) + last_biases


def example_losses(z: Array, y: Array, loss: str = "cross_entropy") -> Array:
    """Compute the loss (N,) of every example for outputs z and targets y, both (N, K).

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
    """Compute what training descends on: mean(c * losses) + 1/2 sum(l2 * w**2).

    w, l2 (P,); x (N, D); y (N, K); c (N,), the weights of the examples.
    """
    losses = example_losses(outputs(w, x, sizes, activation), y, loss)
    return anp.mean(c * losses) + 0.5 * anp.sum(l2 * w * w)


def by_step_and_group(value: Array, steps: int, groups: int) -> Array:
    """Expand a scalar, (T,), (T, 1), (1, G) or (T, G) to (T, G)."""
    if anp.ndim(value) == 1:
        value = anp.reshape(value, (-1, 1))
    return value * np.ones((steps, groups))


def by_parameter(value: Array, sizes: Sequence[int]) -> Array:
    """Expand a scalar, (G,) or (P,) to (P,)."""
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
    """Train in plain float64: the weights and the velocity after the last step.

        v <- decay v - (1 - decay) g        w <- w + lr v        with the new v

    Parameters
    ----------
    w0, v0 : (P,)
        The start.
    lr, decay : scalar, (T,), (T, 1), (1, G) or (T, G)
        A decay is used as it is: pass it through `snap` to compare with exact arithmetic.
    l2 : scalar, (G,) or (P,)
        Coefficients of the penalty.
    x, y, c : (N, D), (N, K), (N,)
        c are the weights of the examples.
    batches : T arrays of row indices, optional
        All rows at each of `steps` steps if not given.
    steps : int, optional
        T.
    sizes, activation, loss : as in `objective`
        The network.

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
    """Compute the validation loss of the weights of `final_state`: no penalty, every example of weight 1."""
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
    """Differentiate the validation loss; each gradient has the shape of its argument.

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
