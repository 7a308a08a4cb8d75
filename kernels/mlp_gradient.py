"""Forward and backward through a multilayer perceptron.

    A_0 = X,   Z_l = A_{l-1} W_l + b_l,   A_l = phi(Z_l) for l < L,   delta_L = dL/dZ_L
    dL/dW_l = A_{l-1}^T delta_l,   dL/db_l = 1^T delta_l,   delta_{l-1} = (delta_l W_l^T) * phi'(Z_{l-1})

Examples pass in blocks of `ROWS`, each adding to the gradient: the workspace does not grow with the batch, and a
block's activations stay in the cache.  But for the sums over rows, in dL/dW and dL/db, every row goes its own way, so
two threads share a block by rows until they meet, and by parameters then (team.py).  Layers are walked with two running
offsets: p into the parameters, and q into the activation arrays, where the rows of a layer lie behind those of the
layers before it.
"""

from __future__ import annotations

import numpy as np

from . import losses
from .activations import activate, through_slope
from .jit import inlined, kernel
from .layers import add_parameter_gradient, add_through_weights, affine, clear
from .primitives import ZERO, copy_elements, like
from .structures import Batch, Data, Network, Passes, Team, Workspace
from .team import begin, meet, parameters_of, rows_of

ROWS = 256


@inlined
def add_gradient(net, w, batch, scale, passes, work, team, g):
    """g += d/dw of the sum over the batch of scale * weight * loss; of a team, each thread its parameters."""
    low, high = rows_of(team, batch.size)
    forward(net, w, batch, low, high, passes)
    k, z0 = net.sizes[-1], outputs_offset(net.sizes, batch.size)
    part, mean = rows_within(batch, low, high), passes.mean[low * k :]
    losses.predict(net.loss, passes.act, z0 + low * k, part.size, k, mean)
    losses.cotangent(net.loss, mean, part, k, scale, passes.delta, z0 + low * k)
    _backward(net, w, batch, low, high, passes, work)
    meet(team)
    _add_parameter_gradients(net, batch, passes, work, team, g)


@inlined
def forward(net, w, batch, low, high, passes):
    """Activations of every hidden layer, and the outputs, for the rows low <= i < high of a batch."""
    layers = net.sizes.size - 1
    below, below0, p, q = batch.x, batch.first * net.sizes[0], ZERO, ZERO
    for layer in range(layers):
        a, b = net.sizes[layer], net.sizes[layer + 1]
        affine(below, below0 + low * a, high - low, a, w, p, b, passes.act, q + low * b)
        if layer < layers - 1:
            activate(net.activation, passes.act, q + low * b, q + high * b)
        below, below0 = passes.act, q
        p += (a + 1) * b
        q += batch.size * b


@inlined
def _backward(net, w, batch, low, high, passes, work):
    """delta of every hidden layer, for some rows."""
    p, q = w.size, outputs_offset(net.sizes, batch.size)
    for layer in range(net.sizes.size - 2, 0, -1):
        a, b = net.sizes[layer], net.sizes[layer + 1]
        p -= (a + 1) * b
        below0 = q - batch.size * a
        start, stop = below0 + low * a, below0 + high * a
        clear(passes.delta, start, stop)
        add_through_weights(passes.delta, q + low * b, high - low, b, w, p, a, work.across, passes.delta, start)
        through_slope(net.activation, passes.act, passes.delta, start, stop)
        q = below0


@inlined
def _add_parameter_gradients(net, batch, passes, work, team, g):
    """Of this thread's parameters, over all rows."""
    low, high = parameters_of(team, g.size)
    p, q = g.size, outputs_offset(net.sizes, batch.size)
    for layer in range(net.sizes.size - 2, -1, -1):
        a, b = net.sizes[layer], net.sizes[layer + 1]
        p -= (a + 1) * b
        below, below0 = layer_input(batch, passes, layer, a, q)
        first, last = rows_of_layer(p, a, b, low, high)
        add_parameter_gradient(below, below0, batch.size, a, passes.delta, q, b, work.one, g, p, first, last)
        q = below0


@inlined
def rows_of_layer(p, a, b, low, high):
    """Of W (a, b), which lies from p on, and of the bias, its row a: those within low <= p < high, which cuts none."""
    return min(max(low - p, 0) // b, a + 1), min(max(high - p, 0) // b, a + 1)


@inlined
def layer_input(batch, passes, layer, a, q):
    """The array and offset of what goes into a layer of `a` inputs, whose outputs begin at q."""
    if layer:
        return passes.act, q - batch.size * a
    return batch.x, batch.first * a


@kernel
def penalty_gradient(bounds, w, l2, g, low, high):
    """g = l2 * w: the gradient of the penalty, and with u for w its Hessian times u; for low <= p < high."""
    if l2.size == w.size:
        w_p, l2_p, g_p = w[low:high], l2[low:high], g[low:high]
        for p in range(w_p.size):
            g_p[p] = _product(l2_p[p], w_p[p])
        return
    for group in range(l2.size):
        start, stop = low, high
        if l2.size > 1:
            start, stop = max(bounds[group], low), min(bounds[group + 1], high)
        if l2[group] == 0.0:
            clear(g, start, stop)
        elif start < stop:
            w_g, g_g = w[start:stop], g[start:stop]
            for p in range(w_g.size):
                g_g[p] = _product(l2[group], w_g[p])


@inlined
def _product(l2, w):
    """l2 w, but 0 for -0, as if added to the 0 that a sum begins with."""
    return like(w, 0.0) + like(w, l2) * w


@kernel
def mean_loss_and_gradient(net, w, data, examples, l2, passes, work, team, g):
    """The mean of weight * loss over the first `examples` of the data; and in g the gradient of that and the penalty.

    Summed in the order of a step's, so that it has the same bits.  Of a team, the first thread has the loss, and each
    its parameters' part of the gradient.  All tuples come without their names (plain.py).
    """
    net, data, passes, work, team = Network(*net), Data(*data), Passes(*passes), Workspace(*work), Team(*team)
    if not begin(team):
        return np.nan
    low, high = parameters_of(team, g.size)
    penalty_gradient(net.bounds, w, l2, g, low, high)
    total, k = 0.0, net.sizes[-1]
    for first in range(0, examples, ROWS):
        batch = consecutive(data, first, min(ROWS, examples - first))
        add_gradient(net, w, batch, 1.0 / examples, passes, work, team, g)
        z0 = outputs_offset(net.sizes, batch.size)
        if team.me == 0:
            total += losses.total(net.loss, passes.act, z0, passes.mean, batch.y, batch.weights, first, batch.size, k)
        meet(team)
    return total / examples


@kernel
def outputs(net, w, data, examples, passes, z):
    """The outputs z (examples, K) of the last layer."""
    k = net.sizes[-1]
    for first in range(0, examples, ROWS):
        batch = consecutive(data, first, min(ROWS, examples - first))
        forward(net, w, batch, ZERO, batch.size, passes)
        z0 = outputs_offset(net.sizes, batch.size)
        copy_elements(passes.act, z0, z, first * k, batch.size * k)


@inlined
def rows_within(batch, low, high):
    """A batch of some rows of one."""
    return Batch(batch.x, batch.y, batch.weights, batch.unit, batch.first + low, high - low)


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
