"""Tests of the PyTorch door."""
