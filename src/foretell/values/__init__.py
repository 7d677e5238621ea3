"""Value functions learned offline: what is worth doing, from data that only say what was done."""
