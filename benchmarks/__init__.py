"""Foretell timed beside its peers, in one run on one machine. `python -m benchmarks --help`; docs/performance.md."""
