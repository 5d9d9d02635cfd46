"""Scheduled retraining: slots of time, each done once, whoever ticks and however often."""
