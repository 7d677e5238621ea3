"""Muon's step in C, for training on CPUs; PyTorch's operators where there is no compiler."""
