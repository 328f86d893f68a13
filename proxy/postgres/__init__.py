"""PostgreSQL at the gate."""
