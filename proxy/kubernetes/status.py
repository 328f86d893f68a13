"""Words of the gate's own, as a Kubernetes API server says them: a Status object (meta.k8s.io/v1)."""

from __future__ import annotations

import json

_REASONS = {
    400: "BadRequest",
    401: "Unauthorized",
    403: "Forbidden",
    404: "NotFound",
    406: "NotAcceptable",
    408: "Timeout",
    409: "Conflict",
    413: "RequestEntityTooLarge",
    415: "UnsupportedMediaType",
    429: "TooManyRequests",
    503: "ServiceUnavailable",
    504: "Timeout",
}


def status(code: int, message: str) -> bytes:
    """The body of an answer with this HTTP status; kubectl prints the message."""
    return json.dumps(
        {
            "kind": "Status",
            "apiVersion": "v1",
            "metadata": {},
            "status": "Failure",
            "message": message,
            "reason": _REASONS.get(code, "InternalError"),
            "code": code,
        }
    ).encode()


def watch_error(code: int, message: str) -> bytes:
    """The last event of a watch that is ended, as a line."""
    return b'{"type":"ERROR","object":' + status(code, message) + b"}\n"
