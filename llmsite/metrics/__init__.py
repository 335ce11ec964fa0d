"""The site's numbers, told: to Prometheus, as JSON, and in the log at the end."""
