"""The smooth part of a Gaussian process in C, for imagining on CPUs; PyTorch's operators where there is no compiler."""
