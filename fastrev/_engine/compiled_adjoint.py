"""The derivatives of some losses by all that an MLP's training depends on, as the kernels sum them up."""

from __future__ import annotations

from typing import Any

from fastrev._engine.mlp_objective import MLPObjective
from fastrev._engine.rule import Rule
from fastrev._engine.types import AnyArray, FloatArray
from fastrev._engine.walk import Trace, gradients_by_the_start, kept_of, named, nbytes
from fastrev.kernels.structures import Adjoint, ObjectiveAdjoint


class CompiledAdjoint:
    """Of C losses; it owns their derivatives by the end, w_bar (C, P) and m_bar (C, M, P)."""

    def __init__(
        self,
        trained: MLPObjective,
        rule: Rule,
        w_bar: FloatArray,
        m_bar: FloatArray,
        wrt: tuple[str, ...],
        through: range,
    ) -> None:
        self._trained, self._rule, self._until = trained, rule, through.start
        self._trace = Trace(through, w_bar)
        self._count = (len(w_bar),)
        self._objective = trained.new_adjoint(wrt, self._count)
        self.arrays = Adjoint(w_bar, m_bar, rule.new_adjoint(self._count), self._objective, *self._trace.tables)

    @property
    def nbytes(self) -> int:
        """Memory of all."""
        arrays = self.arrays
        return nbytes(arrays.w, arrays.moments, arrays.norms, *arrays.rule, *self._objective)

    def of(self, losses: range) -> Adjoint:
        """That of some neighbouring losses."""
        w, moments, rule, _, norms, first, every = self.arrays
        part = slice(losses.start, losses.stop)
        rule = type(rule)(*(each[part] for each in rule))
        objective = ObjectiveAdjoint(*(each[part] for each in self._objective))
        return Adjoint(w[part], moments[part], rule, objective, norms[part], first, every)

    @property
    def kept(self) -> dict[str, AnyArray]:
        """All arrays by name."""
        w, moments, rule, _, norms, *_ = self.arrays
        return kept_of(w, moments, norms, named(rule), named(self._objective))

    def gradients(self) -> dict[str, Any]:
        """The derivatives by the names of the arguments, in their shapes behind an axis of C."""
        return {
            **gradients_by_the_start(self.arrays.w, self.arrays.moments, self._rule, self._until),
            **self._rule.gradients(self.arrays.rule, self._count),
            **self._trained.gradients(self._objective, self._count),
        }

    def norms(self) -> tuple[FloatArray, AnyArray]:
        """Those of the derivatives by the weights (C, S), and before which steps (S,); the last is that of the end."""
        return self._trace.read()
