"""PostgreSQL: connect, dump, load, exchange, a scratch server."""
