"""Where sets live."""
