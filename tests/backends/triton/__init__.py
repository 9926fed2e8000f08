"""Tests of Triton's kernels and of the numbers of a step on a GPU."""
