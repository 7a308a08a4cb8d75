"""``python -m fastrev``: the experiments, on real data."""

from __future__ import annotations

import sys

if __name__ == "__main__":
    try:
        from fastrev.experiments import main
    except KeyboardInterrupt:
        print("fastrev: interrupted", file=sys.stderr)
        sys.exit(130)
    sys.exit(main())
