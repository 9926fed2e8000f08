"""JAX's conventions: pytrees, tracing, optax's transformations."""
