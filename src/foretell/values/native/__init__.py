"""The smooth part of a Gaussian process, and errors and gradients of implicit Q-learning, in C for CPUs; PyTorch's
operators where there is no compiler."""
