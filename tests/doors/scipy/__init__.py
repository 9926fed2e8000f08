"""Tests of the SciPy door."""
