"""A service account's token for each grant, made by TokenRequest and bound to a Secret of ours.

The Secret is empty. The API server takes a bound token only as long as its object is there (KEP-1205,
kubernetes.io/docs/reference/access-authn-authz/service-accounts-admin), so that to delete the Secret is to
drop the token, before it runs out. The broker's own account needs: create, delete and list of secrets in that
namespace, and create of serviceaccounts/token for that one account. It may impersonate nobody.
"""

from __future__ import annotations

import hashlib
import ssl
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import httpx2

from broker.config import ClusterTarget, Mint
from broker.credentials.postgres import NewLogin, TargetError

SHORTEST = 600
"""Seconds; the API server makes no token for less."""
_SECONDS = 10.0
_INSTALLATION = "portcullis.dev/installation"
_LOGIN = "portcullis.dev/login"
_GRANT = "portcullis.dev/grant"


class ClusterLogins:
    """Tokens at one cluster. Without `mint` in the target there is nothing to make: sessions enter with the
    target's own token. `installation` tells ours from those of another Portcullis at the same cluster.
    """

    def __init__(
        self,
        name: str,
        target: ClusterTarget,
        installation: str,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._name = name
        self._target = target
        self._now = now
        self._label = hashlib.sha256(installation.encode()).hexdigest()[:32]

    async def make(self, login: NewLogin) -> str | None:
        """A token that is good until the grant's end, or a little longer for a very short grant. Raises
        TargetError. Done twice, the first token is good no longer.
        """
        mint = self._target.mint
        if mint is None:
            return None
        async with self._client() as server:
            await self._delete(server, mint, login.name)
            holder = await self._call(server, "POST", _secrets(mint), self._holder(mint, login))
            left = (login.expiry - self._now()).total_seconds()
            account = f"/api/v1/namespaces/{mint.namespace}/serviceaccounts/{mint.service_account}/token"
            answer = await self._call(server, "POST", account, _request(holder, max(SHORTEST, int(left) + 1)))
        token = (answer.get("status") or {}).get("token")
        if not isinstance(token, str) or not token:
            raise TargetError(f"{self._name} gave no token.")
        return token

    async def drop(self, name: str) -> str:
        """Delete what the token is bound to. Raises TargetError; may be repeated."""
        if (mint := self._target.mint) is not None:
            async with self._client() as server:
                await self._delete(server, mint, name)
        return ""

    async def ours(self) -> dict[str, str]:
        """The logins that this installation made and that are there now, with their grants."""
        mint = self._target.mint
        if mint is None:
            return {}
        async with self._client() as server:
            query = f"{_secrets(mint)}?labelSelector={_INSTALLATION}%3D{self._label}"
            found = await self._call(server, "GET", query)
        notes = [(it["metadata"].get("annotations") or {}) for it in found.get("items") or ()]
        return {note[_LOGIN]: note.get(_GRANT, "") for note in notes if _LOGIN in note}

    # ------------------------------------------------------------- inside

    def _client(self) -> httpx2.AsyncClient:
        try:
            token = self._target.token.read()
        except LookupError as error:
            raise TargetError(f"The token for {self._name} is not there: {error}.") from error
        host = f"[{self._target.host}]" if ":" in self._target.host else self._target.host
        return httpx2.AsyncClient(
            base_url=f"https://{host}:{self._target.port}",
            verify=ssl.create_default_context(cadata=self._target.ca or None),
            headers={"Authorization": f"Bearer {token}"},
            timeout=_SECONDS,
            trust_env=False,
        )

    async def _delete(self, server: httpx2.AsyncClient, mint: Mint, name: str) -> None:
        await self._call(server, "DELETE", f"{_secrets(mint)}/{_object(name)}", absent=True)

    async def _call(
        self, server: httpx2.AsyncClient, method: str, path: str, body: Any = None, *, absent: bool = False
    ) -> dict[str, Any]:
        """One call's answer. The server's own words are not passed on: they may quote what it was sent."""
        try:
            answer = await server.request(method, path, json=body)
            if absent and answer.status_code == 404:
                return {}
            if answer.status_code // 100 != 2:
                what = f"{method} {path.partition('?')[0]}"
                raise TargetError(f"{self._name} answers {answer.status_code} to {what}.")
            found = answer.json()
        except (httpx2.HTTPError, OSError) as error:
            raise TargetError(f"{self._name} cannot be reached ({type(error).__name__}).") from error
        except ValueError as error:
            raise TargetError(f"{self._name} answers with what is no JSON.") from error
        return found if isinstance(found, dict) else {}

    def _holder(self, mint: Mint, login: NewLogin) -> dict[str, Any]:
        return {
            "apiVersion": "v1",
            "kind": "Secret",
            "type": "Opaque",
            "metadata": {
                "name": _object(login.name),
                "namespace": mint.namespace,
                "labels": {"app.kubernetes.io/managed-by": "portcullis", _INSTALLATION: self._label},
                "annotations": {_LOGIN: login.name, _GRANT: login.grant},
            },
        }


def _secrets(mint: Mint) -> str:
    return f"/api/v1/namespaces/{mint.namespace}/secrets"


def _object(login: str) -> str:
    """A login's name as an object's."""
    return f"portcullis-{hashlib.sha256(login.encode()).hexdigest()[:24]}"


def _request(holder: dict[str, Any], seconds: int) -> dict[str, Any]:
    meta = holder.get("metadata") or {}
    bound = {"apiVersion": "v1", "kind": "Secret", "name": meta.get("name"), "uid": meta.get("uid")}
    return {
        "apiVersion": "authentication.k8s.io/v1",
        "kind": "TokenRequest",
        "spec": {"expirationSeconds": seconds, "boundObjectRef": bound},
    }
