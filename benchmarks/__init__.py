"""Benchmarks: one timing harness, one file a question."""
