"""Brings commands, interactions and events to the app, as Slack does.

Over HTTP: a POST signed with `v0=HMAC_SHA256(secret, "v0:{timestamp}:{raw body}")`
(docs.slack.dev/authentication/verifying-requests-from-slack). Over Socket Mode: an envelope that has to be
acknowledged by its id. Either way the app has three seconds. Only events are retried, three times, with
`x-slack-retry-num` and `x-slack-retry-reason` (or `retry_attempt`, `retry_reason` in the envelope).
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import json
import secrets
from collections import deque
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlencode

import aiohttp

from .core import Core
from .faults import DELIVERY_FAULTS, Fault
from .socket_mode import Sockets
from .state import Json

ACK_SECONDS = 3.0
RETRY_DELAYS = (0.0, 60.0, 300.0)


@dataclass
class Delivery:
    """One thing brought to the app: what was sent, byte for byte, and how it was acknowledged.

    `error` is None for a good acknowledgement, else `operation_timeout` (no answer in three seconds),
    `dispatch_failed` (nobody there) or `http_service_error` (an answer other than 200).
    """

    kind: str
    payload: Json
    body: bytes = b""
    headers: dict[str, str] = field(default_factory=dict)
    envelope: Json | None = None
    status: int | None = None
    response: Any = None
    error: str | None = None
    retries: int = 0
    no_retry: bool = False

    @property
    def acked(self) -> bool:
        return self.error is None and self.status == 200


def encode(kind: str, payload: Json) -> tuple[bytes, str]:
    """The raw body and its content type: commands as a form, interactions as a form field, events as JSON."""
    if kind == "event":
        return json.dumps(payload).encode(), "application/json"
    fields = payload if kind == "command" else {"payload": json.dumps(payload)}
    return urlencode(fields).encode(), "application/x-www-form-urlencoded"


def sign(secret: str, timestamp: int, body: bytes) -> str:
    base = b"v0:%d:%s" % (timestamp, body)
    return "v0=" + hmac.new(secret.encode(), base, hashlib.sha256).hexdigest()


class Deliverer:
    """`log` keeps the latest deliveries, newest last."""

    def __init__(
        self,
        core: Core,
        sockets: Sockets,
        *,
        ack_seconds: float = ACK_SECONDS,
        retry_delays: tuple[float, ...] = RETRY_DELAYS,
    ) -> None:
        self.core = core
        self.sockets = sockets
        self.ack_seconds = ack_seconds
        self.retry_delays = retry_delays
        self.request_url = core.app.request_url
        self.log: deque[Delivery] = deque(maxlen=1000)
        self._http: aiohttp.ClientSession | None = None
        self._tasks: set[asyncio.Task[Any]] = set()
        core.emit = self.emit

    async def close(self) -> None:
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._http is not None:
            await self._http.close()
            self._http = None

    # -- sending -------------------------------------------------------------------------------------------

    async def send(self, kind: str, payload: Json) -> Delivery:
        """Deliver once (faults aside) and wait for the acknowledgement, at most `ack_seconds`."""
        delivery = Delivery(kind, payload)
        self.log.append(delivery)
        struck = {fault.name: fault for fault in self.core.faults.take(DELIVERY_FAULTS, kind)}
        await self._wait(struck)
        self._seal(delivery, struck)
        await self._attempt(delivery)
        duplicate = struck.get("duplicate")
        for _ in range(int(duplicate.value or 1) if duplicate else 0):
            await self.replay(delivery)
        if "lose_ack" in struck:
            delivery.error, delivery.response = "operation_timeout", None
        return delivery

    async def replay(
        self, delivery: Delivery, *, body: bytes | None = None, headers: dict[str, str] | None = None
    ) -> Delivery:
        """Send the same bytes, signature and envelope id again, or with the given body or headers changed."""
        copy = Delivery(
            delivery.kind,
            delivery.payload,
            delivery.body if body is None else body,
            delivery.headers | (headers or {}),
            delivery.envelope,
        )
        self.log.append(copy)
        await self._attempt(copy)
        return copy

    async def _wait(self, struck: dict[str, Fault]) -> None:
        if "late" in struck:
            await asyncio.sleep(float(struck["late"].value))
        if "hold" in struck:
            released: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self.core.faults.held.append(released)
            await released

    def _seal(self, delivery: Delivery, struck: dict[str, Fault]) -> None:
        """Fix the bytes: body, timestamp and signature, and the envelope of Socket Mode."""
        delivery.body, content_type = encode(delivery.kind, delivery.payload)
        timestamp = int(self.core.clock())
        if "old_timestamp" in struck:
            timestamp -= int(struck["old_timestamp"].value or 600)
        secret = self.core.app.signing_secret + ("-forged" if "bad_signature" in struck else "")
        delivery.headers = {
            "Content-Type": content_type,
            "User-Agent": "Slackbot 1.0 (+https://api.slack.com/robots)",
            "X-Slack-Request-Timestamp": str(timestamp),
            "X-Slack-Signature": sign(secret, timestamp, delivery.body),
        }
        types = {"command": "slash_commands", "event": "events_api"}
        delivery.envelope = {
            "envelope_id": f"{secrets.token_hex(4)}-{secrets.token_hex(8)}",
            "type": types.get(delivery.kind, "interactive"),
            "payload": delivery.payload,
            "accepts_response_payload": delivery.kind != "event",
        }

    async def _attempt(self, delivery: Delivery) -> None:
        if self.core.faults.away:
            delivery.error = "dispatch_failed"
        elif self.request_url is not None:
            await self._by_http(delivery, self.request_url)
        else:
            await self._by_socket(delivery)

    async def _by_http(self, delivery: Delivery, url: str) -> None:
        if self._http is None:
            self._http = aiohttp.ClientSession()
        limit = aiohttp.ClientTimeout(total=self.ack_seconds)
        try:
            async with self._http.post(
                url, data=delivery.body, headers=delivery.headers, timeout=limit
            ) as reply:
                delivery.status = reply.status
                delivery.response = _body(await reply.text())
                delivery.no_retry = reply.headers.get("x-slack-no-retry") == "1"
            delivery.error = None if delivery.status == 200 else "http_service_error"
        except TimeoutError:
            delivery.error = "operation_timeout"
        except aiohttp.ClientError:
            delivery.error = "dispatch_failed"

    async def _by_socket(self, delivery: Delivery) -> None:
        assert delivery.envelope is not None
        try:
            async with asyncio.timeout(self.ack_seconds):
                delivery.response = await self.sockets.send(delivery.envelope)
            delivery.status, delivery.error = 200, None
        except TimeoutError:
            delivery.error = "operation_timeout"
        except ConnectionError:
            delivery.error = "dispatch_failed"

    # -- events --------------------------------------------------------------------------------------------

    def emit(self, subscription: str, event: Json) -> None:
        """Deliver an event in the background if the manifest subscribes to it, with Slack's retries."""
        if not self.core.app.subscribes(subscription):
            return
        task = asyncio.get_running_loop().create_task(self.send_event(event))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def send_event(self, event: Json) -> Delivery:
        payload = self._event_payload(event)
        delivery = await self.send("event", payload)
        for attempt, delay in enumerate(self.retry_delays, start=1):
            if delivery.error is None or delivery.no_retry:
                break
            await asyncio.sleep(delay)
            reason = {"operation_timeout": "http_timeout", "http_service_error": "http_error"}
            delivery.retries = attempt
            delivery.headers |= {
                "X-Slack-Retry-Num": str(attempt),
                "X-Slack-Retry-Reason": reason.get(delivery.error, "connection_failed"),
            }
            if delivery.envelope is not None:
                delivery.envelope |= {"retry_attempt": attempt, "retry_reason": "timeout"}
            self._sign_again(delivery)
            await self._attempt(delivery)
        return delivery

    def _sign_again(self, delivery: Delivery) -> None:
        timestamp = int(self.core.clock())
        delivery.headers["X-Slack-Request-Timestamp"] = str(timestamp)
        delivery.headers["X-Slack-Signature"] = sign(self.core.app.signing_secret, timestamp, delivery.body)

    def _event_payload(self, event: Json) -> Json:
        team = self.core.workspace.team_id
        return {
            "token": "sandbox-verification-token",
            "team_id": team,
            "context_team_id": team,
            "context_enterprise_id": None,
            "api_app_id": self.core.app.id,
            "event": event,
            "type": "event_callback",
            "event_id": self.core.state.new_id("Ev"),
            "event_time": int(self.core.clock()),
            "authorizations": [
                {
                    "enterprise_id": None,
                    "team_id": team,
                    "user_id": self.core.bot_user,
                    "is_bot": True,
                    "is_enterprise_install": False,
                }
            ],
            "is_ext_shared_channel": False,
        }

    async def settled(self) -> None:
        """Wait until no event is under way any more."""
        while self._tasks:
            await asyncio.gather(*self._tasks, return_exceptions=True)


def _body(text: str) -> Any:
    try:
        return json.loads(text) if text else None
    except ValueError:
        return text
