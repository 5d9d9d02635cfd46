"""The steps that are run: one module per step, a package where a step has parts."""

import bnpipe.data  # noqa: F401 - it sets up Keras, before anything here imports it
