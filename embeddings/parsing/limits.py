"""What one document may cost at most. The child is told them, so it needs no settings of the site."""

MEBIBYTE = 1 << 20

MOST_MEMORY = 512 * MEBIBYTE
"""Bytes of address space of the child."""
MOST_CPU = 20
"""Seconds."""
MOST_TIME = 30
"""Seconds on the clock, whatever the child does."""
MOST_OUTPUT = 64 * MEBIBYTE
"""Bytes of JSON that the parent reads."""
