"""A restore into scratch, and the checks of it."""
