"""Asking a running server, and what was asked."""
