"""Saying what happened: statistics, tables, figures and one page. Reads and writes files; needs no torch."""
