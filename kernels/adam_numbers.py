"""The numbers of Adam: of all steps, of one, and the derivatives by them."""

from __future__ import annotations

from typing import NamedTuple

from .broadcast import entry
from .jit import inlined
from .structures import Float64s, Int64s


class Tables(NamedTuple):
    """Adam and AdamW: what each step is made with."""

    lr: Float64s  # (T or 1, G or 1)
    n1: Int64s  # beta1 = n1 / d1
    d1: Int64s
    n2: Int64s  # beta2 = n2 / d2
    d2: Int64s
    eps: Float64s
    eps_root: float
    weight_decay: Float64s
    c1: Float64s  # (T, G or 1): one minus the product of all beta1 so far
    c2: Float64s  # the same of beta2
    spills: Int64s  # (T, G or 1): 1 where the carry gives a word to the tail
    groups: Int64s  # as of momentum.py
    spans: Int64s
    leaders: Int64s


class Adjoint(NamedTuple):
    """Derivatives by the tables of `Tables`."""

    lr: Float64s  # as Tables.lr
    beta1: Float64s  # as Tables.n1
    beta2: Float64s  # as Tables.n2
    eps: Float64s  # as Tables.eps
    weight_decay: Float64s  # as Tables.weight_decay
    product1: Float64s  # as a row of Tables.c1: by the logarithm of 1 - c1, through the corrections from the step on
    product2: Float64s  # the same of beta2


class Rates(NamedTuple):
    """The numbers of one step and group."""

    alpha: float
    beta1: float
    beta2: float
    eps: float
    eps_root: float
    weight_decay: float
    c1: float
    c2: float


@inlined
def ratios_of(tables, t, group):
    """n1, d1, n2, d2 of one step and group."""
    n1, d1 = entry(tables.n1, t, group), entry(tables.d1, t, group)
    return n1, d1, entry(tables.n2, t, group), entry(tables.d2, t, group)


@inlined
def rates_of(tables, t, group):
    """The numbers of one step and group."""
    n1, d1, n2, d2 = ratios_of(tables, t, group)
    return Rates(
        entry(tables.lr, t, group), n1 / d1, n2 / d2, entry(tables.eps, t, group), tables.eps_root,
        entry(tables.weight_decay, t, group), entry(tables.c1, t, group), entry(tables.c2, t, group),
    )  # fmt: skip


@inlined
def factor(rates):
    """By which the weights are multiplied."""
    return 1.0 - rates.alpha * rates.weight_decay
