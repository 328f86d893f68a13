"""Measurements, which start and stop every server themselves, on free ports of loopback."""
