"""The tree of settings, and what it is made of."""
