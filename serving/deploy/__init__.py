"""The deploy kit: files for compose, Kubernetes, KServe, Prometheus and Grafana, and a runbook.

`settings` holds the values that repeat, `render` fills the templates with them, `traffic` reads the
log of nginx.
"""

IMAGE = "tensorflow/serving:2.21.0"
"""The server that models are tried on and deployed with, unless the configuration names another."""

NGINX = "nginx:1.28.0"
"""The nginx before it, likewise."""
