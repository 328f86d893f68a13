"""The HTTP side of the broker: the API, logins, and the gate's door."""
