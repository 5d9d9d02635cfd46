"""The network, its training loop and what evaluates it, shared by steps."""
