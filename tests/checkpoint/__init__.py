"""Tests of checkpoints: files, and what is loaded of them."""
