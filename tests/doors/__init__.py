"""Tests of the doors: in a room of its own what is of one, here what is of several."""
