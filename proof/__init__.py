"""The drivers' own test suites against one PostgreSQL, reached directly and through the gate."""
