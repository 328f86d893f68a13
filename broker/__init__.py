"""The keeper: durable truth, time, identity, secrets and the API."""
