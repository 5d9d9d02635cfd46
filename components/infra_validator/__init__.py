"""infra_validator: a server on the very bytes that would be pushed. `step` says what it is."""

from bnpipe.components.infra_validator.step import COMPONENT, Inputs, Outputs, Params, run

__all__ = ["COMPONENT", "Inputs", "Outputs", "Params", "run"]
