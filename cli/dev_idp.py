"""A development identity provider: a real OpenID Connect server on loopback whose people log in by a click.

For the demo and the tests only; there are no passwords in it. It is oidc-provider-mock with what that lacks
for our purpose: PKCE is checked (RFC 7636), only the given people exist, the client is a registered one with
a secret, and Werkzeug's debugger is off.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import logging
import re
import secrets
import threading
import warnings
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Literal
from urllib.parse import parse_qs, urlsplit

import flask
import jinja2
import werkzeug.serving

from workflows.model import Principal

with warnings.catch_warnings():
    import authlib.deprecate  # noqa: F401 - it switches its warnings on as it is imported

    warnings.simplefilter("ignore")
    import oidc_provider_mock
    from oidc_provider_mock._storage import Client, Storage

CLIENT_ID = "portcullis"
_LOOPBACK_CALLBACK = re.compile(r"http://(127\.0\.0\.1|localhost):\d{1,5}/auth/callback")

_PAGE = """<!doctype html>
<html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>Who are you?</title>
<style>
  body { font: 16px/1.5 system-ui, sans-serif; background: #f4f4f1; color: #22262a; margin: 0 }
  main { max-width: 26rem; margin: 12vh auto; background: #fff; padding: 2rem; border-radius: 12px;
         box-shadow: 0 1px 3px #0002 }
  h1 { font-size: 1.3rem; margin: 0 0 .3rem } p { color: #59616a; margin: 0 0 1.2rem }
  button { display: flex; justify-content: space-between; width: 100%; font: inherit; padding: .7rem 1rem;
           margin: .5rem 0; border: 1px solid #d5d8db; border-radius: 8px; background: #fff; cursor: pointer }
  button:hover, button:focus-visible { border-color: #1f6f5c; background: #f2faf7 } span { color: #59616a }
  button.no { border: 0; color: #59616a; justify-content: center }
</style>
<main><h1>Who are you?</h1>
<p>Development identity provider: choose a person, no password.</p>
<form method="post">
{% for sub in predefined_users %}
  <button name="sub" value="{{ sub }}"><b>{{ names[sub] }}</b><span>{{ sub }}</span></button>
{% endfor %}
  <button class="no" name="action" value="deny" formnovalidate>Nobody: go back</button>
</form></main></html>
"""


@dataclass(frozen=True, slots=True)
class DevIdp:
    """A running development identity provider. `stop` ends it and frees its port."""

    issuer: str
    client_id: str
    client_secret: str
    server: werkzeug.serving.BaseWSGIServer
    thread: threading.Thread

    def stop(self) -> None:
        self.server.shutdown()
        self.thread.join(5)
        self.server.server_close()


def start_dev_idp(
    people: Iterable[Principal],
    host: str = "127.0.0.1",
    port: int = 0,
    *,
    client_secret: str = "",
    redirect_uris: Iterable[str] | None = None,
) -> DevIdp:
    """Serve the identity provider in a thread of this process, with `people` as those who can log in.

    `client_secret` is made where none is given. `redirect_uris` are where the broker may be answered; without
    them, the callback of any broker on this machine. Raises OSError when the port is taken.
    """
    known = list(people)
    users = [oidc_provider_mock.User(sub=p.id, claims=_claims(p)) for p in known]
    app = oidc_provider_mock.app(require_client_registration=True, require_nonce=True, user_claims=users)
    app.debug = False
    app.wsgi_app = app.wsgi_app.app  # type: ignore[attr-defined, method-assign]  # the debugger's inner app
    app.jinja_loader = jinja2.ChoiceLoader(
        [jinja2.DictLoader({"authorization_form.html": _PAGE}), _loader(app)]
    )
    app.jinja_env.globals["names"] = {p.id: p.name or p.id for p in known}
    _only_these_people(app, {p.id for p in known})
    _check_pkce(app)
    client_secret = client_secret or secrets.token_urlsafe(24)
    _register(app, client_secret, _Loopback() if redirect_uris is None else tuple(redirect_uris))
    logging.getLogger("werkzeug").setLevel(logging.WARNING)
    server = werkzeug.serving.make_server(host, port, app, threaded=True)
    thread = threading.Thread(target=server.serve_forever, args=(0.1,), name="dev-idp", daemon=True)
    thread.start()
    # authlib lets plain http through on the name "localhost" only.
    return DevIdp(f"http://localhost:{server.server_port}", CLIENT_ID, client_secret, server, thread)


def _claims(person: Principal) -> dict[str, object]:
    return {
        "name": person.name,
        "email": person.email,
        "email_verified": bool(person.email),
        "preferred_username": person.id,
        "groups": sorted(person.groups),
    }


def _loader(app: flask.Flask) -> jinja2.BaseLoader:
    loader = app.jinja_loader
    assert loader is not None
    return loader


class _Loopback(tuple[str, ...]):
    """Contains the callback of a broker at any port of this machine."""

    def __contains__(self, address: object) -> bool:
        return isinstance(address, str) and bool(_LOOPBACK_CALLBACK.fullmatch(address))


def _register(app: flask.Flask, secret: str, redirect_uris: tuple[str, ...]) -> None:
    method: Literal["client_secret_basic"] = "client_secret_basic"
    client = Client(
        id=CLIENT_ID,
        secret=secret,
        redirect_uris=redirect_uris,
        allowed_scopes=Client.SCOPES_SUPPORTED,
        token_endpoint_auth_method=method,
    )

    # The library keeps its store per application and shows it only inside a request.
    @app.before_request
    def know_client() -> None:
        storage: Storage = flask.g.oidc_provider_mock_storage
        if storage.get_client(CLIENT_ID) is None:
            storage.store_client(client)


def _only_these_people(app: flask.Flask, ids: set[str]) -> None:
    @app.before_request
    def refuse_others() -> Any:
        path = flask.request.path
        sub = flask.request.form.get("sub")
        if path == "/oauth2/authorize" and sub is not None and sub not in ids:
            return "There is no such person here.", 403
        if path.startswith("/users/") or path == "/oauth2/clients":
            return "This provider's people and clients are fixed.", 403
        return None


def _check_pkce(app: flask.Flask) -> None:
    """Remember the challenge of each code given out, and let a code be redeemed only by its verifier."""
    challenges: dict[str, str] = {}

    @app.before_request
    def verify() -> Any:
        request = flask.request
        if request.path == "/oauth2/authorize" and request.args.get("code_challenge_method") != "S256":
            return {"error": "invalid_request", "error_description": "PKCE with S256 is required"}, 400
        if request.path == "/oauth2/token" and request.form.get("grant_type") == "authorization_code":
            digest = hashlib.sha256(request.form.get("code_verifier", "").encode()).digest()
            made = base64.urlsafe_b64encode(digest).rstrip(b"=").decode()
            expected = challenges.pop(request.form.get("code", ""), "")
            if not expected or not hmac.compare_digest(made, expected):
                return {"error": "invalid_grant", "error_description": "The code verifier is wrong"}, 400
        return None

    @app.after_request
    def remember(response: flask.Response) -> flask.Response:
        if flask.request.path == "/oauth2/authorize" and response.location:
            for code in parse_qs(urlsplit(response.location).query).get("code", ()):
                challenges[code] = flask.request.args.get("code_challenge", "")
        return response
