"""Tests of the monitor and its diagnoses."""
