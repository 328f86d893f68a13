"""The one exception of the sandbox's Web API: a Slack error code and what goes with it."""

from __future__ import annotations

from typing import Any


class SlackError(Exception):
    """Answered as `{"ok": false, "error": code, ...}` with `status` and `headers`."""

    def __init__(
        self, code: str, *, status: int = 200, headers: dict[str, str] | None = None, **fields: Any
    ) -> None:
        super().__init__(code)
        self.code = code
        self.status = status
        self.headers = headers or {}
        self.fields = fields

    def body(self) -> dict[str, Any]:
        return {"ok": False, "error": self.code, **self.fields}


class NotPossible(Exception):
    """Raised by the driver where a person in Slack's client could not do what the test asks for."""
