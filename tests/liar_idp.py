"""An OpenID Connect provider whose every answer a test can bend, reached without a network."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qs

import httpx2
from joserfc import jwt
from joserfc.jwk import KeySet, RSAKey

from broker.clock import SystemChance, SystemClock
from broker.identity.oidc import OidcProvider

CALLBACK = "http://127.0.0.1:9/auth/callback"
ISSUER = "https://idp.example.com"


@dataclass
class Liar:
    """A provider whose every answer a test can bend."""

    key: RSAKey = field(default_factory=lambda: RSAKey.generate_key(2048, {"kid": "one"}))
    published: list[RSAKey] = field(default_factory=list)
    document: dict[str, Any] = field(default_factory=dict)
    claims: dict[str, Any] = field(default_factory=dict)
    header: dict[str, Any] = field(default_factory=lambda: {"alg": "RS256", "kid": "one"})
    forge: Callable[[dict[str, Any]], str] | None = None
    key_reads: int = 0
    nonce: str = ""
    renewal: str = ""
    """The one refresh token that is good; "": none is given out. Each use gives the next one."""
    away: bool = False
    clock: Callable[[], float] = time.time

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        form = parse_qs((await receive()).get("body", b"").decode())
        status, said = self._status(scope["path"], form)
        content = json.dumps(said or self.answer(scope["path"])).encode()
        headers = [(b"content-type", b"application/json")]
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": content})

    def _status(self, path: str, form: dict[str, list[str]]) -> tuple[int, Any]:
        if self.away:
            return 503, {"error": "temporarily_unavailable"}
        if path != "/token_endpoint" or form.get("grant_type") != ["refresh_token"]:
            return 200, None
        if form.get("refresh_token") != [self.renewal] or not self.renewal:
            self.renewal = ""  # a token that was used before ends the login (RFC 9700 section 4.14.2)
            return 400, {"error": "invalid_grant"}
        self.renewal += "+"
        return 200, None

    def answer(self, path: str) -> Any:
        if path.endswith("openid-configuration"):
            names = ("authorization_endpoint", "token_endpoint", "jwks_uri")
            return {"issuer": ISSUER, **{n: f"{ISSUER}/{n}" for n in names}, **self.document}
        if path == "/jwks_uri":
            self.key_reads += 1
            return KeySet(self.published or [self.key]).as_dict(private=False)
        now = int(self.clock())
        claims = {"iss": ISSUER, "aud": "us", "sub": "ada", "iat": now, "exp": now + 60, "nonce": self.nonce}
        claims |= self.claims
        claims = {name: value for name, value in claims.items() if value is not None}
        token = self.forge(claims) if self.forge else jwt.encode(self.header, claims, self.key)
        more = {"refresh_token": self.renewal} if self.renewal else {}
        return {"access_token": "a", "token_type": "Bearer", "id_token": token, **more}


async def finish_with(liar: Liar, **answer: str) -> Any:
    provider = OidcProvider(
        ISSUER,
        "us",
        "secret",
        clock=SystemClock(),
        chance=SystemChance(),
        transport=httpx2.ASGITransport(app=liar),
    )
    _, begun = await provider.begin(CALLBACK)
    liar.nonce = liar.nonce or begun.nonce
    return await provider.finish(begun, {"state": begun.state, "code": "c", **answer})
