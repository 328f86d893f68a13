"""Logins at targets: made for one grant, sealed at rest, dropped with it. One file a kind of target."""
