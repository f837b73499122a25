"""Test restores into a temporary PostgreSQL and directory, and their checks."""
