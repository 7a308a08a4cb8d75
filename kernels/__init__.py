"""The kernels: Numba only, one mathematical object a module.

Every function takes raw C-contiguous arrays and scalars and writes its results into arrays that the caller
allocated.  Nothing here checks an argument: ``fastrev``'s own modules do that before they call.  The kernels never
import the API.

Rules that hold in every module:

* **Strict IEEE arithmetic.**  No fast-math flag at all; a fused multiply-add is written as `fma`.  The bits of a
  result are so a property of the source, not of the optimiser, the vector width or where a call was inlined: the
  gradient of the reverse pass is the gradient of the forward pass bit for bit, which exact reversal rests on.
* **do and undo side by side**, mirrored line by line.
* **Grid integers and heads are int64, tail words uint16**, cast to int64 before arithmetic: Numba turns a
  mix of int64 and uint64 into float64.
"""
