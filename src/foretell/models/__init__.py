"""Networks: one file each, and the attention and blocks that they share."""
