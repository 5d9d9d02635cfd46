"""The steps that are run: one module per step, a package where a step has parts."""
