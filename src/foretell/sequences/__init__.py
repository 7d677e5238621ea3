"""Data read as sentences: scaling, windows, batches."""
