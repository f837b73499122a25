"""The command line: options of each command, the call, and its result as text and JSON."""
