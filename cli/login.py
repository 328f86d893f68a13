"""`access login`, `logout` and `whoami`."""

from __future__ import annotations

import secrets
import threading
import time
import webbrowser
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import parse_qs, urlencode, urlsplit

import typer

from cli import saved
from cli.client import Api
from cli.say import bold, instant, safe, say, say_list, say_plain
from cli.trouble import Exit, Trouble
from cli.workload import exchange

WAIT_SECONDS = 300.0

_PAGE = """<!doctype html><html lang="en"><meta charset="utf-8"><title>{title}</title>
<style>body{{font:16px/1.5 system-ui,sans-serif;margin:18vh auto;max-width:26rem;text-align:center}}</style>
<h1>{title}</h1><p>{text}</p></html>"""


def login(
    broker: Annotated[str, typer.Option(help="The broker's address.", envvar="PORTCULLIS_BROKER")] = "",
    browser: Annotated[
        bool, typer.Option(help="Open a browser here; without one, a short code is shown.")
    ] = True,
    workload_token: Annotated[
        Path | None, typer.Option(help="A file with the token of this workload: log in as its agent.")
    ] = None,
    agent: Annotated[str, typer.Option(help="Which agent, where the token fits several.")] = "",
) -> None:
    """Log in through the identity provider, or as an agent by the token of its workload."""
    api = Api(saved.broker_address(broker))
    saved.prepare()
    if workload_token is not None:
        found = exchange(api.broker, workload_token, agent)
        saved.write(saved.Login(api.broker, found["principal"], found["access_token"]))
        say(f"Logged in as {bold(found['principal'])}, an agent of {safe(found['owner'])}.")
        return
    answer = _with_browser(api) if browser else _with_code(api)
    place = saved.write(saved.Login(api.broker, answer["principal"], answer["token"]))
    kept = "the system's keyring" if saved.in_keyring() else str(place)
    say(f"Logged in as {bold(answer['principal'])} at {safe(api.broker)}.", safe(f"Kept in {kept}."))


def logout() -> None:
    """End the login and forget it."""
    try:
        api = Api.mine()
        api.post("/api/v1/logout")
    except Trouble as trouble:
        if trouble.exit_code is Exit.UNREACHABLE:
            raise Trouble(
                f"{trouble.why} Your login is still good there.", "Try again later.", Exit.UNREACHABLE
            ) from None
    saved.forget()
    say("Logged out.")


def whoami() -> None:
    """Who is logged in, and what they hold."""
    api = Api.mine()
    me = api.get("/api/v1/me")
    person = me["principal"]
    who = safe(f"({person['name']}, {person['email']}) at {api.broker}")
    say(f"{bold(person['id'])} {who}")
    administrator = ", administrator" if person["admin"] else ""
    say_plain(f"Groups: {', '.join(person['groups']) or 'none'}{administrator}")
    if account := me["account"]:
        say_plain(_account(account))
    say_plain(_slack(me["slack"]))
    say_list("Open:", [_held(story) for story in me["grants"]], "You hold no grant.")


def _account(account: dict[str, Any]) -> str:
    until = account["groups_until"]
    groups = f"; its groups count until {instant(until)}" if until else ""
    return f"Logs in at {account['provider']}{groups}."


def unbind(
    person: Annotated[str, typer.Argument(help="Whose account at the identity provider is released.")],
) -> None:
    """Release somebody's account, so that their next login binds another; for administrators."""
    Api.mine().post(f"/api/v1/identities/{person}/unbind")
    say_plain(f"The next login binds {person}'s account anew.")


def _slack(link: dict[str, Any] | None) -> str:
    if link is None:
        return "Slack: no account is linked to you; type /access link there."
    how = {"policy": "the policy file says so", "login": "you linked it", "email": "the same e-mail address"}
    return f"Slack: {link['user']} acts for you ({how[link['how']]})."


def _held(story: dict[str, Any]) -> str:
    grant = story["grant"]
    return f"{story['resource']} as {story['role']} until {instant(grant['expiry'])} ({grant['id']})"


# ------------------------------------------------------- with a browser


def _with_browser(api: Api) -> Any:
    """RFC 8252 section 7.3: the answer comes to a listener on loopback, and PKCE binds it to us."""
    from broker.identity.pkce import challenge_of

    verifier, state = secrets.token_urlsafe(48), secrets.token_urlsafe(24)
    with _Listener(state) as listener:
        query = {"port": listener.port, "challenge": challenge_of(verifier), "state": state}
        # What the page would say is not heard here: nobody should wait for a browser that was turned away.
        nobodys = {"challenge": challenge_of(secrets.token_urlsafe(48)), "state": secrets.token_urlsafe(24)}
        api.reach("/auth/cli/start", query | nobodys)
        address = f"{api.broker}/auth/cli/start?{urlencode(query)}"
        say("Log in in the browser. If it does not open, go to:", safe(f"  {address}"))
        webbrowser.open(address)
        code = listener.wait(WAIT_SECONDS)
    return api.post("/auth/cli/token", {"code": code, "verifier": verifier})


class _Listener:
    """Waits on loopback for the browser to bring the code for `state`; anything else is turned away."""

    def __init__(self, state: str) -> None:
        self._code = ""
        self._came = threading.Event()
        listener = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                parts = urlsplit(self.path)
                query = {name: values[0] for name, values in parse_qs(parts.query).items()}
                good = parts.path == "/callback" and secrets.compare_digest(
                    query.get("state", "").encode(), state.encode()
                )
                title, text = ("Logged in", "Go back to your terminal. You can close this page.")
                if not good or not query.get("code"):
                    title, text = ("Not logged in", "This is not the answer to the login in your terminal.")
                page = _PAGE.format(title=title, text=text).encode()
                self.send_response(200 if good else 400)
                self.send_header("Content-Type", "text/html; charset=utf-8")
                self.send_header("Content-Length", str(len(page)))
                self.send_header("Referrer-Policy", "no-referrer")
                self.send_header("Cache-Control", "no-store")
                self.end_headers()
                self.wfile.write(page)
                if good and query.get("code"):
                    listener._code = query["code"]
                    listener._came.set()

            def log_message(self, *_args: object) -> None:
                """Say nothing: the path holds the code."""

        self._server = HTTPServer(("127.0.0.1", 0), Handler)
        self.port = self._server.server_port
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True)

    def __enter__(self) -> _Listener:
        self._thread.start()
        return self

    def __exit__(self, *_failure: object) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def wait(self, seconds: float) -> str:
        if not self._came.wait(seconds):
            raise Trouble(
                "Nobody logged in in time.", "Try again, or without a browser: access login --no-browser"
            )
        return self._code


# ---------------------------------------------------- without a browser


def _with_code(api: Api) -> Any:
    """In the manner of RFC 8628: a short code that somebody confirms in a browser anywhere."""
    started = api.post("/auth/device/start")
    say(
        f"On any device, open {bold(started['verification_uri'])}",
        f"and enter the code {bold(started['user_code'])}, good for {started['expires_in'] // 60} minutes.",
    )
    until = time.monotonic() + started["expires_in"]
    while time.monotonic() < until:
        time.sleep(started["interval"])
        try:
            return api.post("/auth/device/token", {"device_code": started["device_code"]})
        except Trouble as trouble:
            if trouble.code != "authorization_pending":
                raise
    raise Trouble("Nobody confirmed the code in time.", "Start again: access login --no-browser")
