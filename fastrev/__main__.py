"""``python -m fastrev``: the experiments, on real data."""

from __future__ import annotations

import sys

from fastrev.experiments import main

if __name__ == "__main__":
    sys.exit(main())
