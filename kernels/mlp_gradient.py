"""Forward and backward through a multilayer perceptron.

    A_0 = X,   Z_l = A_{l-1} W_l + b_l,   A_l = phi(Z_l) for l < L,   delta_L = dL/dZ_L
    dL/dW_l = A_{l-1}^T delta_l,   dL/db_l = 1^T delta_l,   delta_{l-1} = (delta_l W_l^T) * phi'(Z_{l-1})

Examples pass in blocks of `ROWS`, each adding to the gradient: the workspace does not grow with the batch, and a
block's activations stay in the cache.  Layers are walked with two running offsets: p into the parameters, and q into
the activation arrays, where the rows of a layer lie behind those of the layers before it.
"""

from __future__ import annotations

from . import losses
from .activations import activate, through_slope
from .jit import inlined, kernel
from .layers import add_parameter_gradient, add_through_weights, affine, clear
from .primitives import ZERO, copy_elements, like
from .structures import Batch

ROWS = 256


@inlined
def add_gradient(net, w, batch, scale, passes, work, g):
    """g += d/dw of the sum over the batch of scale * weight * loss."""
    forward(net, w, batch, passes)
    k, z0 = net.sizes[-1], outputs_offset(net.sizes, batch.size)
    losses.predict(net.loss, passes.act, z0, batch.size, k, passes.mean)
    losses.cotangent(net.loss, passes.mean, batch, k, scale, passes.delta, z0)
    _backward(net, w, batch, passes, work, g)


@inlined
def forward(net, w, batch, passes):
    """Activations of every hidden layer, and the outputs."""
    rows, layers = batch.size, net.sizes.size - 1
    below, below0, p, q = batch.x, batch.first * net.sizes[0], ZERO, ZERO
    for layer in range(layers):
        a, b = net.sizes[layer], net.sizes[layer + 1]
        affine(below, below0, rows, a, w, p, b, passes.act, q)
        if layer < layers - 1:
            activate(net.activation, passes.act, q, q + rows * b)
        below, below0 = passes.act, q
        p += (a + 1) * b
        q += rows * b


@inlined
def _backward(net, w, batch, passes, work, g):
    rows = batch.size
    p, q = w.size, outputs_offset(net.sizes, rows)
    for layer in range(net.sizes.size - 2, -1, -1):
        a, b = net.sizes[layer], net.sizes[layer + 1]
        p -= (a + 1) * b
        below, below0 = layer_input(batch, passes, layer, a, q)
        add_parameter_gradient(below, below0, rows, a, passes.delta, q, b, work.one, g, p)
        if layer:
            clear(passes.delta, below0, q)
            add_through_weights(passes.delta, q, rows, b, w, p, a, work.across, passes.delta, below0)
            through_slope(net.activation, passes.act, passes.delta, below0, q)
        q = below0


@inlined
def layer_input(batch, passes, layer, a, q):
    """The array and offset of what goes into a layer of `a` inputs, whose outputs begin at q."""
    if layer:
        return passes.act, q - batch.size * a
    return batch.x, batch.first * a


@kernel
def add_penalty(bounds, w, l2, g):
    """g += l2 * w: the gradient of the penalty, and with u for w its Hessian times u."""
    for group in range(bounds.size - 1):
        start, stop = bounds[group], bounds[group + 1]
        w_g, g_g = w[start:stop], g[start:stop]
        if l2.size == w.size:
            l2_g = l2[start:stop]
            for p in range(w_g.size):
                g_g[p] += like(w_g[p], l2_g[p]) * w_g[p]
        else:
            l2_w = l2[min(group, l2.size - 1)]
            if l2_w != 0.0:
                for p in range(w_g.size):
                    g_g[p] += like(w_g[p], l2_w) * w_g[p]


@kernel
def mean_loss_and_gradient(net, w, data, examples, l2, passes, work, g):
    """The mean of weight * loss over the first `examples` of the data; and in g the gradient of that and the penalty.

    Summed in the order of a step's, so that it has the same bits.
    """
    clear(g, ZERO, g.size)
    add_penalty(net.bounds, w, l2, g)
    total, k = 0.0, net.sizes[-1]
    for first in range(0, examples, ROWS):
        batch = consecutive(data, first, min(ROWS, examples - first))
        add_gradient(net, w, batch, 1.0 / examples, passes, work, g)
        z0 = outputs_offset(net.sizes, batch.size)
        total += losses.total(net.loss, passes.act, z0, passes.mean, batch.y, batch.weights, first, batch.size, k)
    return total / examples


@kernel
def outputs(net, w, data, examples, passes, z):
    """The outputs z (examples, K) of the last layer."""
    k = net.sizes[-1]
    for first in range(0, examples, ROWS):
        batch = consecutive(data, first, min(ROWS, examples - first))
        forward(net, w, batch, passes)
        z0 = outputs_offset(net.sizes, batch.size)
        copy_elements(passes.act, z0, z, first * k, batch.size * k)


@inlined
def consecutive(data, first, size):
    return Batch(data.x, data.y, data.weights, data.unit, first, size)


@inlined
def outputs_offset(sizes, rows):
    """Where the last layer's rows begin in the activation arrays."""
    hidden = ZERO
    for layer in range(1, sizes.size - 1):
        hidden += sizes[layer]
    return rows * hidden
