"""`python -m serving.local`."""

import sys

from serving.local.main import main

sys.exit(main())
