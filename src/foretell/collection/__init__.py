"""A policy acting in an environment, recorded; and the recipes for the datasets that Foretell makes."""
