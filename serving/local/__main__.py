"""`python -m bnpipe.serving.local`."""

import sys

from bnpipe.serving.local.main import main

sys.exit(main())
