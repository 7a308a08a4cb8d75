"""The machinery behind the public names: it allocates, hands over to the kernels and shapes what comes back.

Nothing in here is public, so nothing in here begins with an underscore except what is a module's own.
"""

import sys
from pathlib import Path

# the link fastrev/kernels is missing in an unpacked sdist, and a file in a clone without symbolic links (Windows makes
# these): the kernels are found beside the package then, as fastrev.kernels all the same
if not (Path(__file__).parents[1] / "kernels").is_dir():
    sys.modules["fastrev"].__path__.append(str(Path(__file__).parents[2]))
