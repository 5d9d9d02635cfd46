"""The deploy kit: files for compose, Kubernetes, KServe, Prometheus and Grafana, and a runbook.

`settings` holds the values that repeat, `render` fills the templates with them.
"""
