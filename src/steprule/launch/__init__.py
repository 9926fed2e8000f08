"""One step of many rows: where numbers lie, what runs over them, and in which order; the same for every door."""
