"""The tree of settings and its sections."""
