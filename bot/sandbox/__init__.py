"""A Slack to try and to test against: a real server of Slack's protocol, and a page that looks like Slack.

It knows nothing of the app. It serves the Web API, signs what it sends (HTTP) or sends it over Socket Mode,
keeps channels, threads, ephemerals, modals and home tabs, and enforces Slack's limits.

    workspace = Workspace(
        people=(Person("ada", "Ada Lovelace", "ada@example.com"), Person("grace", "Grace Hopper")),
        channels=(Room("general"), Room("db-approvers", members=("grace",))),
        groups=(Group("db-owners", ("grace",)),),
        app=App(request_url=None, manifest=yaml.safe_load(manifest)),    # None: Socket Mode
    )
    sandbox = create_sandbox(workspace, clock, rate_limits=True, ack_seconds=3.0, state_file=None)
    await sandbox.start()                    # 127.0.0.1, a free port; or `async with sandbox:`
    client = AsyncWebClient(workspace.app.bot_token, base_url=sandbox.api_url)
    sandbox.request_url = "http://127.0.0.1:PORT/slack/events"           # once the app's port is known

    ada, grace = sandbox.as_user("ada"), sandbox.as_user("grace")
    delivery = await ada.commands("/access request prod-db 1h", channel="#general")   # waits for the ack
    assert delivery.acked                    # .status .response .error .payload .body .headers .envelope
    card = await grace.sees("prod-db", channel="#db-approvers")          # waits; a snapshot of the Message
    await grace.clicks(card, "approve")      # by action id or label; NotPossible if she has no such button
    card = await grace.sees_change(card, "Approved")
    await grace.clicks(old_card, "approve", force=True, value="tampered")    # a stale or tampered press
    await ada.sees("granted", ephemeral=True)    # also: thread=card
    modal = await ada.sees_modal("Request access")
    await ada.selects(modal, "resource", "prod-db"); await ada.searches(modal, "resource", "pro")
    await ada.submits({"reason": "INC-142"})     # by action id, block id or label; ada.modal.errors after
    await ada.closes(); await ada.opens_home(); ada.home; await ada.shortcut("request_access")
    await ada.types("#general", "hello @grace", thread=card)
    ada.messages("#general"), ada.messages("#general", thread=card), ada.ephemerals(), ada.dms()
    ada.buttons(card), ada.now(card), text_of(card)

    sandbox.deliveries, sandbox.last_delivery, sandbox.calls("chat.postMessage")
    await sandbox.replay(delivery)           # the same bytes and signature; body=…, headers=… to alter them
    await sandbox.resend(delivery, lambda payload: payload.update(team_id="T0OTHER"))  # genuinely signed
    await sandbox.settled()                  # every event under way was acknowledged or given up
    sandbox.faults.rate_limit("chat.postMessage", times=2, retry_after=1)
    sandbox.faults.duplicate("block_actions"); .late(kind, seconds); .hold(kind) / .release(reverse=True)
    sandbox.faults.fail/.error/.slow/.lose_reply(method), .bad_signature/.old_timestamp/.lose_ack(kind)
    sandbox.faults.go_away() / .come_back();  sandbox.state.expire_triggers()
    await sandbox.sockets.disconnect("refresh_requested"), sandbox.sockets.half_open()
    sandbox.admin.deletes(card), .archives("#x"), .removes_app("#x"), .joins("#x", "ada"), .leaves(…),
    sandbox.admin.changes_user("ada", deleted=True), .changes_group("db-owners", ["linus"])

Delivery kinds: command, block_actions, block_suggestion, view_submission, view_closed, shortcut,
message_action, event. Names are handles; channels are "#name", an id, or "@portcullis" for the app's DMs.
Signatures carry the sandbox's clock: with a fake one give the app's verifier the same clock, or start
the fake one at the real time. Rate limits follow `rate_clock` (real time); `rate_limits=False` suits fast
tests.
"""

from .config import App, Group, Person, Room, Workspace
from .delivery import Delivery
from .driver import Driver, NotSeen
from .errors import NotPossible, SlackError
from .server import Sandbox, create_sandbox
from .state import Message, View
from .text_of import text_of

__all__ = [
    "App",
    "Delivery",
    "Driver",
    "Group",
    "Message",
    "NotPossible",
    "NotSeen",
    "Person",
    "Room",
    "Sandbox",
    "SlackError",
    "View",
    "Workspace",
    "create_sandbox",
    "text_of",
]
