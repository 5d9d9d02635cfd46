"""`python -m bnpipe.pipeline` is `bnpipe`."""

from bnpipe.pipeline.cli import main

main()
