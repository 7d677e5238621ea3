"""Perceptrons in C, for training agents on CPUs; PyTorch's own operators where no compiler is at hand."""
