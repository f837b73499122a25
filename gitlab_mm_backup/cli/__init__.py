"""The command line: options of each command, the call, and how its result is told."""
