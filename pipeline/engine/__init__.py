"""Runs any graph of components; it knows no product."""
