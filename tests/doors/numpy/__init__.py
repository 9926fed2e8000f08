"""Tests of the NumPy door."""
