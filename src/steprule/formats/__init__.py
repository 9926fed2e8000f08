"""How a number is kept between steps: its type in memory, and what storing it does to the value."""

from steprule.formats.plain import FORMATS, Format, find, flush

__all__ = ["FORMATS", "Format", "find", "flush"]
