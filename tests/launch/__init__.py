"""Tests of what takes a step, the same for every door."""
