"""Tests of rules: what they are, and that they are their papers'."""
