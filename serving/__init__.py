"""The serving of a trained network: signatures, folding, versions, server configuration, client."""

import bnpipe.data  # noqa: F401 - it sets up Keras, before anything here imports it
