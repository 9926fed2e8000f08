"""Tests of the JAX door."""
