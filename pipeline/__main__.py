"""`python -m pipeline` is `bnpipe`."""

from pipeline.cli import main

main()
