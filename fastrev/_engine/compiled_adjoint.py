"""The derivatives of some losses by all that an MLP's training depends on, as the kernels sum them up."""

from __future__ import annotations

from typing import Any

from fastrev._engine.mlp_objective import MLPObjective
from fastrev._engine.sgd import SGD
from fastrev._engine.types import AnyArray, FloatArray
from fastrev._engine.walk import Trace, gradients_by_the_start, nbytes
from fastrev.kernels.structures import Adjoint


class CompiledAdjoint:
    """Of C losses; it owns their derivatives by the end, w_bar and v_bar (C, P)."""

    def __init__(
        self,
        trained: MLPObjective,
        rule: SGD,
        w_bar: FloatArray,
        v_bar: FloatArray,
        wrt: tuple[str, ...],
        through: range,
    ) -> None:
        self._trained, self._rule, self._until = trained, rule, through.start
        self._leading = (len(w_bar),)
        self._trace = Trace(through, w_bar)
        self._objective = trained.new_adjoint(wrt, len(w_bar))
        self.arrays = Adjoint(w_bar, v_bar, rule.new_adjoint(self._leading), self._objective, *self._trace.tables)

    @property
    def nbytes(self) -> int:
        """Memory of all."""
        arrays = self.arrays
        return nbytes(arrays.w, arrays.v, arrays.norms, *arrays.rule, *self._objective)

    def of(self, losses: range) -> Adjoint:
        """That of some neighbouring losses."""
        w, v, rule, _, norms, first, every = self.arrays
        part = slice(losses.start, losses.stop)
        rule, objective = (type(each)(*(array[part] for array in each)) for each in (rule, self._objective))
        return Adjoint(w[part], v[part], rule, objective, norms[part], first, every)

    def gradients(self) -> dict[str, Any]:
        """The derivatives by the names of the arguments, in their shapes behind an axis of C."""
        return {
            **gradients_by_the_start(self.arrays.w, self.arrays.v, self._until),
            **self._rule.gradients(self.arrays.rule, self._leading),
            **self._trained.gradients(self._objective, self._leading),
        }

    def norms(self) -> tuple[FloatArray, AnyArray]:
        """Those of the derivatives by the weights (C, S), and before which steps (S,); the last is that of the end."""
        return self._trace.read()
