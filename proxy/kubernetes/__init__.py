"""Kubernetes API servers behind the gate: requests understood as the server itself understands them."""
