"""The deploy kit: files for compose, Kubernetes, KServe, Prometheus, Grafana, Beam, and a runbook.

`settings` and `cluster` hold the values that repeat, `render` fills the templates with them,
`traffic` reads the log of nginx.
"""

IMAGE = "tensorflow/serving:2.21.0"
"""The server that models are tried on and deployed with, unless the configuration names another."""

NGINX = "nginx:1.28.0"
"""The nginx before it, likewise."""

FLINK = "flink:1.19.3-scala_2.12-java11"
"""The Flink of Beam's steps on a cluster, likewise."""
