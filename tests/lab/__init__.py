"""Tests of the lab: its page, its links and its films."""
