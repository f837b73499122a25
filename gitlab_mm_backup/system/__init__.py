"""The operating system: processes, sandbox, files, locks, log."""
