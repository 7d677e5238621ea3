"""The command line: verbs, progress, exit codes. Printing is done here and nowhere else."""
