"""HTTP through the gate: internal services for browsers and programs, message by message."""
