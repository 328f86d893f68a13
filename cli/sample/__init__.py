"""The sample target of `./run` and of the tests: a small shop in PostgreSQL, and an access.yaml for it."""
