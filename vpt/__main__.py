"""`python -m vpt`."""

import sys

from vpt.cli import main

sys.exit(main())
