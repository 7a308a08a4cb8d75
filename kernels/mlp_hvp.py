"""Hessian-vector products by the R-operator (Pearlmutter 1994), with the mixed derivatives.

R{f}(w) is the derivative of f(w + r u) by r at 0.  Applied to each line of forward and backward (mlp_gradient.py):

    R{A_0} = 0,   R{Z_l} = A_{l-1} U_l + c_l + R{A_{l-1}} W_l,   R{A_l} = phi'(Z_l) * R{Z_l}
    R{dL/dW_l} = A_{l-1}^T R{delta_l} + R{A_{l-1}}^T delta_l,   R{dL/db_l} = 1^T R{delta_l}
    R{delta_{l-1}} = (R{delta_l} W_l^T + delta_l U_l^T) * phi' + delta_{l-1} * phi''/phi' * R{Z_{l-1}}

with U_l, c_l the parts of u.  R{dL/dw} is the Hessian times u; R{dL/dx} is the derivative of (dL/dw . u) by x, and
likewise for the targets and the example weights.
"""

from __future__ import annotations

from . import activations, losses
from ._jit import inlined, kernel
from .mlp_gradient import ROWS, add_gradient, consecutive, fill, fill_rows, outputs_offset
from .primitives import fma
from .products import product, transpose


@inlined
def add_hvp(net, w, batch, scale, work, tangents):
    """hu += H u for the objective of `add_gradient`, which must have run on this batch just before.

    Fills ``tangents.x`` with R{dL/dX} unless it is empty.
    """
    _forward(net, w, batch, work, tangents)
    out = outputs_offset(net, batch.size)
    losses.tangent(net.loss, work.mean, batch, net.sizes[-1], scale, tangents.act[out:], tangents.delta[out:])
    _backward(net, w, batch, work, tangents)


@kernel
def mean_hvp(net, w, data, examples, work, tangents):
    """hu = H u for the mean of weight * loss over the first `examples` of the data."""
    fill(tangents.hu, 0.0)
    for first in range(0, examples, ROWS):
        batch = consecutive(data, first, min(ROWS, examples - first))
        add_gradient(net, w, batch, 1.0 / examples, work, work.g)
        add_hvp(net, w, batch, 1.0 / examples, work, tangents)


@inlined
def _forward(net, w, batch, work, tangents):
    layers = net.sizes.size - 1
    u = tangents.u
    p = q = 0
    below, below0 = batch.x, batch.first * net.sizes[0]
    for layer in range(layers):
        a, b = net.sizes[layer], net.sizes[layer + 1]
        fill_rows(tangents.act, q, batch.size, u, p + a * b, b)
        product(below, below0, a, 1, u, p, batch.size, b, a, tangents.act, q)
        if layer > 0:
            product(tangents.act, below0, a, 1, w, p, batch.size, b, a, tangents.act, q)
        if layer < layers - 1:
            end = q + batch.size * b
            activations.tangent(
                net.activation, work.act[q:end], work.slope[q:end], tangents.act[q:end], tangents.bend[q:end]
            )
        below, below0 = work.act, q
        p += (a + 1) * b
        q += batch.size * b


@inlined
def _backward(net, w, batch, work, tangents):
    u, hu = tangents.u, tangents.hu
    p, q = w.size, outputs_offset(net, batch.size)
    for layer in range(net.sizes.size - 2, -1, -1):
        a, b = net.sizes[layer], net.sizes[layer + 1]
        p -= (a + 1) * b
        if layer > 0:
            below = q - batch.size * a
            product(work.act, below, 1, a, tangents.delta, q, a, b, batch.size, hu, p)
            product(tangents.act, below, 1, a, work.delta, q, a, b, batch.size, hu, p)
            _through_weights(w, u, p, a, b, batch.size, work, tangents, q, tangents.delta, below)
            _bend(tangents.delta[below:q], work.slope[below:q], work.delta[below:q], tangents.bend[below:q])
        else:
            below = 0
            product(batch.x, batch.first * a, 1, a, tangents.delta, q, a, b, batch.size, hu, p)
            if tangents.x.size:
                _through_weights(w, u, p, a, b, batch.size, work, tangents, q, tangents.x, 0)
        product(work.one, 0, 0, 0, tangents.delta, q, 1, b, batch.size, hu, p + a * b)
        q = below


@inlined
def _through_weights(w, u, p, a, b, rows, work, tangents, q, r, r0):
    """r (rows, a) = R{delta} W^T + delta U^T."""
    fill(r[r0 : r0 + rows * a], 0.0)
    transpose(w, p, a, b, work.across)
    product(tangents.delta, q, b, 1, work.across, 0, rows, a, b, r, r0)
    transpose(u, p, a, b, work.across)
    product(work.delta, q, b, 1, work.across, 0, rows, a, b, r, r0)


@inlined
def _bend(r, slope, delta, bend):
    """r <- r * slope + delta * bend."""
    for p in range(r.size):
        r[p] = fma(delta[p], bend[p], r[p] * slope[p])
