"""One affine layer Z = A W + 1 b^T, and what the passes through it need; W (a, b) and b (b,) lie in w from p on.

All matrices have `rows` rows and lie in flat arrays from an offset on.
"""

from __future__ import annotations

from .jit import inlined, kernel
from .primitives import ONE, ZERO, copy_elements, like
from .products import product, transpose


@inlined
def affine(below, below0, rows, a, w, p, b, z, z0):
    """Z = A W + 1 b^T for A (rows, a) and Z (rows, b)."""
    for i in range(rows):
        copy_elements(w, p + a * b, z, z0 + i * b, b)
    product(below, below0, a, ONE, w, p, rows, b, a, z, z0)


@inlined
def add_parameter_gradient(below, below0, rows, a, delta, delta0, b, one, g, p, first, last):
    """dW += A^T delta and db += 1^T delta, of the rows first <= i < last of W and, with i = a, of b."""
    within = min(last, a)
    if first < within:
        product(below, below0 + first, ONE, a, delta, delta0, within - first, b, rows, g, p + first * b)
    if first <= a < last:
        product(one, ZERO, ZERO, ZERO, delta, delta0, ONE, b, rows, g, p + a * b)


@inlined
def add_through_weights(delta, delta0, rows, b, w, p, a, across, out, out0):
    """out (rows, a) += delta W^T; `across` is scratch for W^T."""
    transpose(w, p, a, b, across, ZERO)
    add_through_turned(delta, delta0, rows, b, across, ZERO, a, out, out0)


@inlined
def add_through_turned(delta, delta0, rows, b, turned, p, a, out, out0):
    """The same for W^T that lies in `turned` from p on."""
    product(delta, delta0, b, ONE, turned, p, rows, a, b, out, out0)


@kernel
def clear(a, start, stop):
    """a = 0."""
    part = a[start:stop]
    for p in range(part.size):
        part[p] = like(part[p], 0.0)
