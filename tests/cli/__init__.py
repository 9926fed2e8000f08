"""Tests of the command line; `steprule race` and `steprule lab` are tested in their rooms."""
