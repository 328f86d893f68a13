"""Durable truth: SQLite by default, PostgreSQL by one setting; the same tables and queries on both."""
