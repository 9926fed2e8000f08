"""States of other libraries: read for an optimizer of this one, and made of it."""
