"""`python -m camkit`, for when the script is not on the path."""

from __future__ import annotations

import sys

from camkit.cli import main

if __name__ == "__main__":
    sys.exit(main())
