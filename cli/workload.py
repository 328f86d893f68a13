"""An agent's login: the token of its workload, exchanged for a short one of the broker's (RFC 8693)."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import httpx2

from cli.client import Api
from cli.trouble import Exit, Trouble

_FORM = {
    "grant_type": "urn:ietf:params:oauth:grant-type:token-exchange",
    "subject_token_type": "urn:ietf:params:oauth:token-type:jwt",
}


def exchange(broker: str, file: Path, agent: str = "") -> Any:
    """The broker's answer: `access_token`, `expires_in` (seconds), `principal`, `owner`. Raises Trouble."""
    try:
        token = file.read_text().strip()
    except OSError as error:
        raise Trouble(
            f"The workload's token cannot be read: {error.strerror}.",
            f"Is it there? {file}",
            Exit.NOT_LOGGED_IN,
        ) from None
    api = Api(broker)  # refuses an address over which the token would travel in clear
    try:
        answer = httpx2.post(
            f"{api.broker}/auth/token",
            data={**_FORM, "subject_token": token, **({"agent": agent} if agent else {})},
            timeout=20,
        )
        found = answer.json()
    except (httpx2.HTTPError, ValueError) as error:
        raise api.unreachable(error) from None
    if answer.status_code != 200:
        why = found.get("error_description") or found.get("why") or "no reason was given"
        raise Trouble(
            f"The broker did not take the workload's token: {why}",
            "The policy's `agents` say which tokens are whose.",
            Exit.NOT_LOGGED_IN,
        )
    return found


class Workload:
    """An agent's API, logged in anew whenever its short login comes to an end."""

    def __init__(self, broker: str, file: Path, agent: str = "") -> None:
        self._broker = broker
        self._file = file
        self._agent = agent
        self._api: Api | None = None
        self._until = 0.0

    def __call__(self) -> Api:
        """Raises Trouble where the workload's token is not taken."""
        if self._api is None or time.monotonic() >= self._until:
            found = exchange(self._broker, self._file, self._agent)
            self._until = time.monotonic() + found["expires_in"] * 0.8
            self._api = Api(self._broker, found["access_token"])
        return self._api
