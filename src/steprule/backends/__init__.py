"""Targets: each a table from operation to text and one loop shell. None knows a rule by name."""
