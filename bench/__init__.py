"""Benchmarks: what the site costs beside the bare thing, measured in one run on this machine."""
