"""Tests of backends: the bits of each are the referee's."""
