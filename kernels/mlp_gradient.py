"""Forward and backward through a multilayer perceptron.

    A_0 = X,   Z_l = A_{l-1} W_l + b_l,   A_l = phi(Z_l) for l < L,   delta_L = dL/dZ_L
    dL/dW_l = A_{l-1}^T delta_l,   dL/db_l = 1^T delta_l,   delta_{l-1} = (delta_l W_l^T) * phi'(Z_{l-1})

Examples pass in blocks of `ROWS`, each adding to the gradient: the workspace does not grow with the batch, and a block's
activations stay in the cache.  Layers are walked with two running offsets: `p` into the parameters, and `q` into the
activation arrays, where the rows of a layer lie behind those of the layers before it.
"""

from __future__ import annotations

from . import activations, losses
from ._jit import inlined, kernel
from .primitives import like
from .products import product, transpose
from .structures import Batch

ROWS = 256


@inlined
def add_gradient(net, w, batch, scale, work, g):
    """g += d/dw of the sum over the batch of scale * weight * loss.  Leaves activations and deltas in `work`."""
    forward(net, w, batch, work)
    k = net.sizes[-1]
    out = outputs_offset(net, batch.size)
    losses.predict(net.loss, work.act[out:], batch.size, k, work.mean)
    losses.cotangent(net.loss, work.mean, batch, k, scale, work.delta[out:])
    _backward(net, w, batch, work, g)


@inlined
def forward(net, w, batch, work):
    """Activations and slopes of every hidden layer, and the outputs, into `work`."""
    layers = net.sizes.size - 1
    p = q = 0
    below, below0 = batch.x, batch.first * net.sizes[0]
    for layer in range(layers):
        a, b = net.sizes[layer], net.sizes[layer + 1]
        fill_rows(work.act, q, batch.size, w, p + a * b, b)
        product(below, below0, a, 1, w, p, batch.size, b, a, work.act, q)
        if layer < layers - 1:
            end = q + batch.size * b
            activations.activate(net.activation, work.act[q:end], work.slope[q:end])
        below, below0 = work.act, q
        p += (a + 1) * b
        q += batch.size * b


@inlined
def _backward(net, w, batch, work, g):
    p, q = w.size, outputs_offset(net, batch.size)
    for layer in range(net.sizes.size - 2, -1, -1):
        a, b = net.sizes[layer], net.sizes[layer + 1]
        p -= (a + 1) * b
        if layer > 0:
            below = q - batch.size * a
            product(work.act, below, 1, a, work.delta, q, a, b, batch.size, g, p)
            transpose(w, p, a, b, work.across)
            fill(work.delta[below:q], 0.0)
            product(work.delta, q, b, 1, work.across, 0, batch.size, a, b, work.delta, below)
            _multiply(work.delta[below:q], work.slope[below:q])
        else:
            below = 0
            product(batch.x, batch.first * a, 1, a, work.delta, q, a, b, batch.size, g, p)
        product(work.one, 0, 0, 0, work.delta, q, 1, b, batch.size, g, p + a * b)
        q = below


@kernel
def add_penalty(net, w, l2, g):
    """g += l2 * w: the gradient of the penalty, and with u for w its Hessian times u."""
    for group in range(net.bounds.size - 1):
        start, stop = net.bounds[group], net.bounds[group + 1]
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
def mean_loss(net, w, data, examples, work):
    """The mean of weight * loss over the first `examples` of the data."""
    total = 0.0
    for first in range(0, examples, ROWS):
        batch = consecutive(data, first, min(ROWS, examples - first))
        forward(net, w, batch, work)
        total += losses.total_loss(net.loss, work.act[outputs_offset(net, batch.size) :], batch, net.sizes[-1])
    return total / examples


@kernel
def mean_loss_and_gradient(net, w, data, examples, work, g):
    """`mean_loss`, and its gradient in g."""
    fill(g, 0.0)
    total = 0.0
    for first in range(0, examples, ROWS):
        batch = consecutive(data, first, min(ROWS, examples - first))
        add_gradient(net, w, batch, 1.0 / examples, work, g)
        total += losses.total_loss(net.loss, work.act[outputs_offset(net, batch.size) :], batch, net.sizes[-1])
    return total / examples


@kernel
def outputs(net, w, data, examples, work, z):
    """The outputs z (examples, K) of the last layer."""
    k = net.sizes[-1]
    for first in range(0, examples, ROWS):
        batch = consecutive(data, first, min(ROWS, examples - first))
        forward(net, w, batch, work)
        out = outputs_offset(net, batch.size)
        copy(work.act[out : out + batch.size * k], z[first * k : (first + batch.size) * k])


@inlined
def consecutive(data, first, size):
    return Batch(data.x, data.y, data.weights, first, size)


@inlined
def outputs_offset(net, rows):
    """Where the last layer's rows begin in the activation arrays."""
    hidden = 0
    for layer in range(1, net.sizes.size - 1):
        hidden += net.sizes[layer]
    return rows * hidden


@inlined
def fill(a, value):
    """Every element of a is the constant.  (Assigning to a slice would compile for a second, and every time.)"""
    for p in range(a.size):
        a[p] = like(a[p], value)


@inlined
def copy(a, b):
    for p in range(a.size):
        b[p] = a[p]


@inlined
def fill_rows(z, z0, rows, b, b0, n):
    """Each of the rows of z (rows, n) is b (n,)."""
    for i in range(rows):
        copy(b[b0 : b0 + n], z[z0 + i * n : z0 + (i + 1) * n])


@inlined
def _multiply(a, b):
    for p in range(a.size):
        a[p] *= b[p]
