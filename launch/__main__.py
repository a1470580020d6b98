"""`python -m launch VERB`, from the repository root, is `lm VERB`."""

import sys

from .main import main

sys.exit(main())
