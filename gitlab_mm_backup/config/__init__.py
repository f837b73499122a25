"""The configuration of this host: config.yml, identity, keys, hooks."""
