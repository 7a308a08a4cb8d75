"""The machinery behind the public names: it allocates, hands over to the kernels and shapes what comes back.

Nothing in here is public, so nothing in here begins with an underscore except what is a module's own.
"""

from fastrev._engine.checkout import find_kernels

find_kernels()
