"""Odd hosts: whether what a backup of one does not tell comes back on another."""
