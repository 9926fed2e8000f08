"""Doors: each adapts one host (NumPy, SciPy, PyTorch, JAX) to the engine. No arithmetic of a rule is here."""
