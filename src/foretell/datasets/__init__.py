"""Recorded experience at rest: D4RL's HDF5 and Minari, read and written without loss, described and checked."""
