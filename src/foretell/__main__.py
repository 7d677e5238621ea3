"""`python -m foretell`."""

from foretell.cli.main import entry

entry()
