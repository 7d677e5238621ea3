"""Fitting: loops, optimisation, run folders, checkpoints."""
