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
from .jit import inlined, kernel
from .layers import add_parameter_gradient, add_through_turned, add_through_weights, affine, clear
from .mlp_gradient import ROWS, add_gradient, consecutive, layer_input, outputs_offset
from .primitives import ONE, ZERO
from .products import product, transpose
from .scattering import subtract_products


@inlined
def turn(net, w, tangents):
    """What `add_hvp` needs of the weights, whatever the block and the direction."""
    p = w.size
    for layer in range(net.sizes.size - 2, -1, -1):
        a, b = net.sizes[layer], net.sizes[layer + 1]
        p -= (a + 1) * b
        if layer or tangents.x.size:
            transpose(w, p, a, b, tangents.turned, p)


@inlined
def derive(net, batch, passes, tangents):
    """What it needs of the passes over a block, whatever the direction."""
    activations.derive(net.activation, passes.act, tangents.slope, ZERO, outputs_offset(net.sizes, batch.size))


@inlined
def add_hvp(net, w, batch, scale, passes, work, tangents):
    """hu += H u for the objective of `add_gradient`, which left its `passes` over this batch.

    `turn` and `derive` have left theirs.
    """
    _forward(net, w, batch, passes, tangents)
    k, z0 = net.sizes[-1], outputs_offset(net.sizes, batch.size)
    losses.tangent(net.loss, passes.mean, batch, k, scale, tangents.act, tangents.delta, z0)
    _backward(net, batch, passes, work, tangents)


@inlined
def subtract_input_tangent(net, batch, passes, tangents, rows, t, first, dx):
    """Row rows[t, first + i] of dx, or without `rows` row first + i, less R{dL/dX} of row i of the batch."""
    a, b = net.sizes[0], net.sizes[1]
    transpose(tangents.u, ZERO, a, b, tangents.x, ZERO)
    subtract_products(
        tangents.delta, ZERO, tangents.turned, ZERO, passes.delta, ZERO, tangents.x, ZERO,
        batch.size, a, b, rows, t, first, dx,
    )  # fmt: skip


@inlined
def _forward(net, w, batch, passes, tangents):
    rows, layers = batch.size, net.sizes.size - 1
    below, below0, p, q = batch.x, batch.first * net.sizes[0], ZERO, ZERO
    for layer in range(layers):
        a, b = net.sizes[layer], net.sizes[layer + 1]
        affine(below, below0, rows, a, tangents.u, p, b, tangents.act, q)
        if layer:
            product(tangents.act, below0, a, ONE, w, p, rows, b, a, tangents.act, q)
        if layer < layers - 1:
            activations.tangent(
                net.activation, passes.act, tangents.slope, tangents.act, tangents.bend, q, q + rows * b
            )
        below, below0 = passes.act, q
        p += (a + 1) * b
        q += rows * b


@inlined
def _backward(net, batch, passes, work, tangents):
    rows, u, hu = batch.size, tangents.u, tangents.hu
    p, q = u.size, outputs_offset(net.sizes, rows)
    for layer in range(net.sizes.size - 2, -1, -1):
        a, b = net.sizes[layer], net.sizes[layer + 1]
        p -= (a + 1) * b
        below, below0 = layer_input(batch, passes, layer, a, q)
        add_parameter_gradient(below, below0, rows, a, tangents.delta, q, b, work.one, hu, p, ZERO, a + 1)
        if layer:
            product(tangents.act, below0, ONE, a, passes.delta, q, a, b, rows, hu, p)
            clear(tangents.delta, below0, q)
            add_through_turned(tangents.delta, q, rows, b, tangents.turned, p, a, tangents.delta, below0)
            add_through_weights(passes.delta, q, rows, b, u, p, a, work.across, tangents.delta, below0)
            activations.cotangent_tangent(
                net.activation, passes.act, tangents.slope, tangents.bend, passes.delta, tangents.delta, below0, q
            )
        q = below0


@kernel
def mean_hvp(net, w, data, examples, passes, work, team, g, tangents):
    """hu = H u for the mean of weight * loss over the first `examples` of the data, and its gradient in g."""
    clear(g, ZERO, g.size)
    clear(tangents.hu, ZERO, tangents.hu.size)
    turn(net, w, tangents)
    for first in range(0, examples, ROWS):
        batch = consecutive(data, first, min(ROWS, examples - first))
        add_gradient(net, w, batch, 1.0 / examples, passes, work, team, g)
        derive(net, batch, passes, tangents)
        add_hvp(net, w, batch, 1.0 / examples, passes, work, tangents)
