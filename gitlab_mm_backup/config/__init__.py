"""This host's own: config.yml, its identity and keys, hooks."""
