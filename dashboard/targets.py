"""What is good enough; the lines in the charts, and when the first line of the page says otherwise.

deploy/prometheus/alerts.yml has the same ones for errors and the first token.
"""

ERROR_RATE = 0.01
FIRST_TOKEN_P95_MS = 5_000
LATENCY_P95_MS = 30_000
