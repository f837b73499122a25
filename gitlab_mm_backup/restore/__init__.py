"""Put a set back: its source, checks before, unpacking, exchange, undo log, rollback."""
