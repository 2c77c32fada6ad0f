"""Measurements against peers; run `python -m benchmarks`."""
