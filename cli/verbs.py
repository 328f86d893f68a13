"""The verbs of the chat, at the command line: the words go to the broker as one line of the same grammar."""

from __future__ import annotations

import sys
import time
from typing import Annotated, Any

import typer

from cli.client import Api
from cli.entering import kind_of, way_in
from cli.say import instant, on_terminal, say_plain, warn
from cli.trouble import Exit, Trouble
from workflows.words import quote

VERBS = {
    "request": "Ask for access: access request prod-db 1h because INC-142",
    "status": "What you have, what you asked for, and what waits for you.",
    "who": "Who has access now: access who prod-db",
    "why": "Why a request stands as it does: access why R-7K3F9Q",
    "approve": "Say yes: access approve R-7K3F9Q",
    "deny": "Say no: access deny R-7K3F9Q because …",
    "cancel": "Take your own request back: access cancel R-7K3F9Q",
    "release": "Give access back early: access release prod-db",
    "revoke": "End somebody's access: access revoke G-7K3F9Q because …",
    "allow": "Say yes in advance: access allow @ada prod-db 2h within 5d because …",
    "extend": "More time on your access: access extend prod-db 30m",
    "nudge": "Ask the approvers once more: access nudge R-7K3F9Q",
    "claim": "Say that you are looking at a request: access claim R-7K3F9Q",
    "link": "Which Slack account acts for you, and how to link one.",
    "unlink": "Take that link away; as an administrator anybody's: access unlink @ada",
    "lock": "Let nobody in, at once: access lock person @ada because …; alone: what is locked",
    "unlock": "Take a lock away: access unlock L-7K3F9Q",
    "review": "After an emergency: access review R-7K3F9Q justified",
}

Words = Annotated[list[str] | None, typer.Argument(help="As in chat.", show_default=False)]
POLL_SECONDS = 1.0


def register(app: typer.Typer) -> None:
    """Give `app` a command for each verb."""
    free = {"ignore_unknown_options": True, "allow_interspersed_args": False}
    for verb, about in VERBS.items():
        command = _request if verb == "request" else _plain(verb)
        app.command(verb, help=about, context_settings=free)(command)


def _plain(verb: str) -> Any:
    def command(words: Words = None) -> None:
        run_line(verb, words or [])

    return command


def _request(
    words: Words = None,
    wait: Annotated[
        bool, typer.Option("--wait", help="Wait until it is decided and the gate is open.")
    ] = False,
) -> None:
    answer = run_line("request", words or [])
    if wait and answer["stories"]:
        _wait(Api.mine(), answer["stories"][0]["id"])


def run_line(verb: str, words: list[str]) -> Any:
    """Have the broker do the line; a slip is mended, and done after a yes from a person."""
    api = Api.mine()
    answer = api.post("/api/v1/lines", {"line": line_of(verb, words)})
    if not answer["understood"]:
        answer = _mended(api, answer)
    say_plain(answer["text"])
    return answer


def line_of(verb: str, words: list[str]) -> str:
    """One line out of the shell's words: what the shell had in quotes stays together."""
    if len(words) > 1:
        words = [quote(word) if any(c.isspace() for c in word) else word for word in words]
    return " ".join([verb, *words])


def _mended(api: Api, answer: Any) -> Any:
    mended = answer["mended"]
    if not mended:
        raise Trouble(answer["text"], "See: access help", Exit.NOT_UNDERSTOOD)
    if on_terminal() and sys.stdin.isatty():
        warn(answer["text"])
        if typer.confirm(f"access {mended}\nDo that?", default=True):
            return api.post("/api/v1/lines", {"line": mended})
        raise typer.Exit(Exit.NOT_UNDERSTOOD)
    raise Trouble(answer["text"], f"Did you mean: access {mended}", Exit.NOT_UNDERSTOOD)


def _wait(api: Api, key: str) -> None:
    kind = kind_of(api, api.get(f"/api/v1/requests/{key}")["resource"])
    while True:
        story = api.get(f"/api/v1/requests/{key}")
        grant = story["grant"]
        if grant and grant["state"] == "active":
            say_plain(f"Open until {instant(grant['expiry'])}. Enter: {way_in(kind, story['resource'])}")
            return
        if (grant and grant["state"] == "ended") or story["state"] in {"denied", "cancelled", "lapsed"}:
            why = (grant and (grant["end_note"] or grant["end_reason"])) or story["close_reason"]
            raise Trouble(f"{key} is {story['state']}" + (f": {why}" if why else "."))
        time.sleep(POLL_SECONDS)


def help_(words: Words = None) -> None:
    """The grammar of the verbs, as in chat."""
    from workflows.grammar import VERBS as GRAMMAR

    chosen = [GRAMMAR[word] for word in words or [] if word in GRAMMAR] or list(GRAMMAR.values())
    for verb in chosen:
        say_plain(f"access {verb.usage}\n    {verb.about}")
