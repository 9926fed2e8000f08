"""The tests, by the room of what they test; those of the whole house lie here."""

from pathlib import Path

ROOT = Path(__file__).parent.parent
"""The repository."""
