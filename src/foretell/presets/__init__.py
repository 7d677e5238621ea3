"""Experiments as Python functions; every number with its source."""
