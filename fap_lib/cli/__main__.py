"""`python -m fap_lib.cli` is `fap`."""

import sys

from fap_lib.cli import main

sys.exit(main())
