"""The world: the table of known tasks, making environments, stepping many at once."""
