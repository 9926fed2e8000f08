"""The papers' algorithms as plain loops, to test the library against."""
