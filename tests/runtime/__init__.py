"""Tests of the driver and its workers."""
