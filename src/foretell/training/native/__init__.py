"""Steps of Muon and AdamW, norms and clipping in C, for training on CPUs; PyTorch's operators where there is no
compiler."""
