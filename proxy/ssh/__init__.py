"""SSH at the gate. asyncssh speaks the protocol on both sides; who, what and how long is decided here."""
