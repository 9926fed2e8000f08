"""Doors: each adapts one foreign framework to the engine. No arithmetic of a rule lives here."""
