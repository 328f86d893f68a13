"""The broker's API as the command line uses it."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import urlsplit

import httpx2

from cli import saved
from cli.trouble import Exit, Trouble

_LOOPBACK = {"localhost", "127.0.0.1", "::1"}


class Api:
    """Calls of one person, or of nobody yet. Every failure is a Trouble."""

    def __init__(self, broker: str, token: str = "") -> None:
        parts = urlsplit(broker)
        if parts.scheme != "https" and parts.hostname not in _LOOPBACK:
            raise Trouble(
                f"{broker} is not https, and your login would cross the network in the clear.",
                "Give the https address: access login --broker https://…",
                Exit.NOT_UNDERSTOOD,
            )
        self.broker = broker
        headers = {"Portcullis-Client": "cli", "Accept": "application/json"}
        if token:
            headers["Authorization"] = f"Bearer {token}"
        self._http = httpx2.Client(base_url=broker, headers=headers, timeout=20)

    @staticmethod
    def mine() -> Api:
        """The API as the person who is logged in. Raises Trouble where nobody is."""
        login = saved.read()
        return Api(saved.broker_address(), login.token)

    def get(self, path: str, **query: str | int) -> Any:
        return self._send("GET", path, params=query)

    def post(self, path: str, body: dict[str, Any] | None = None) -> Any:
        """The same key goes with the second try where the first got no answer, so nothing is done twice."""
        headers = {"Idempotency-Key": secrets.token_urlsafe(16)}
        try:
            return self._send("POST", path, json=body or {}, headers=headers)
        except Trouble as trouble:
            if trouble.exit_code is not Exit.UNREACHABLE:
                raise
            return self._send("POST", path, json=body or {}, headers=headers)

    @contextmanager
    def lines(self, path: str) -> Iterator[Iterator[str]]:
        """The lines of a long answer, as they come."""
        try:
            with self._http.stream("GET", path, timeout=60) as answer:
                if answer.status_code >= 400:
                    answer.read()
                    raise _problem(answer)
                yield answer.iter_lines()
        except httpx2.HTTPError as error:
            raise self.unreachable(error) from None

    def _send(self, method: str, path: str, **how: Any) -> Any:
        try:
            answer = self._http.request(method, path, **how)
        except httpx2.HTTPError as error:
            raise self.unreachable(error) from None
        if answer.status_code >= 400:
            raise _problem(answer)
        return answer.json() if answer.content else None

    def reach(self, path: str, query: dict[str, Any]) -> None:
        """Look whether a browser would be answered there. Raises Trouble with what it would be told."""
        try:
            answer = self._http.get(path, params=query)
        except httpx2.HTTPError as error:
            raise self.unreachable(error) from None
        if answer.status_code >= 400:
            raise _problem(answer)

    def unreachable(self, error: Exception) -> Trouble:
        """That the broker does not answer, as a Trouble."""
        return Trouble(
            f"The broker at {self.broker} does not answer ({type(error).__name__}).",
            "Is it running, and is this its address? Another: access login --broker URL",
            Exit.UNREACHABLE,
        )


def _problem(answer: httpx2.Response) -> Trouble:
    try:
        problem = answer.json()
        why, way_out, code = str(problem["why"]), str(problem["way_out"]), str(problem["code"])
    except (ValueError, KeyError, TypeError):
        return Trouble(
            f"The answer ({answer.status_code}) is not from a broker of ours.",
            "Check the address: access whoami",
            Exit.UNREACHABLE,
        )
    exits = {401: Exit.NOT_LOGGED_IN, 422: Exit.NOT_UNDERSTOOD, 503: Exit.UNREACHABLE}
    return Trouble(why, way_out, exits.get(answer.status_code, Exit.REFUSED), code)
