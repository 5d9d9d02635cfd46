"""The serving of a trained network: signatures, folding, versions, server configuration, client."""
