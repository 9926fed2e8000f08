"""Tests of the formats in which numbers are kept between steps."""
