"""Windows of a dataset gathered in C; NumPy where there is no compiler."""
