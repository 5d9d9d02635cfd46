"""The deploy kit: files for compose, Kubernetes, KServe, Prometheus and Grafana, and a runbook.

`settings` holds the values that repeat, `render` fills the templates with them.
"""

IMAGE = "tensorflow/serving:2.21.0"
"""The server that models are tried on and deployed with, unless the configuration names another."""
