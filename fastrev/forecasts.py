"""What `forecast` returns."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

_SIZES = (1e12, "TB"), (1e9, "GB"), (1e6, "MB"), (1e3, "kB"), (1, "bytes")
_TIMES = (86400, "days"), (3600, "h"), (60, "min"), (1, "s"), (1e-3, "ms"), (1e-6, "us")


@dataclass(frozen=True)
class Forecast:
    """What a meta-gradient is going to take; printed, it is a small table.

    Attributes
    ----------
    steps, num_params : int
        T and P.
    bytes_held : int
        Memory of the state, its information, workspace and derivatives together, as `Stats` will say.  The data are not
        counted, nor what the process takes without a run.
    bytes_on_disk : int
        Of the files of ``buffer=``; 0 without.
    stored_bits : float
        Information that is kept, wherever it is.
    bits_per_parameter_step : float
        The same per parameter and step.
    seconds : float or None
        Time on this machine, as busy as it was meanwhile; None where it was not to be measured.
    """

    steps: int
    num_params: int
    bytes_held: int
    bytes_on_disk: int
    stored_bits: float
    bits_per_parameter_step: float
    seconds: float | None

    def __str__(self) -> str:
        bits = self.bits_per_parameter_step
        lines = [
            f"{self.steps:,} steps of {self.num_params:,} parameters",
            f"memory       {_in_units(self.bytes_held, _SIZES)}",
            f"disk         {_in_units(self.bytes_on_disk, _SIZES)}",
            f"information  {_in_units(self.stored_bits / 8, _SIZES)}, {bits:.3g} bits per parameter and step",
        ]
        return "\n".join(lines + ([] if self.seconds is None else [f"time         {_in_units(self.seconds, _TIMES)}"]))


def _in_units(value: float, units: Sequence[tuple[float, str]]) -> str:
    """Three digits in the largest unit that it has one of."""
    size, name = next((each for each in units if value >= each[0]), units[-1])
    number = value / size
    return f"{number:.0f} {name}" if number >= 100 or name == "bytes" else f"{number:.3g} {name}"
