"""Transformer blocks in C, for training and acting on CPUs; PyTorch's own operators where no compiler is at hand."""
