"""The rules themselves: one paper, one file."""
