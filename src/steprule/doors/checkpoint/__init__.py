"""Checkpoints of optimizers: ``save`` and ``load``, and what every door makes of them."""
