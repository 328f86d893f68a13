"""Linking a Slack account to a person: offered in Slack, confirmed after a login, taken away when it is over.

An offer is a secret link that only the account was shown. The first browser that opens it after a login made
for it has it from then on, and it is good for one yes. What is linked gives nobody any right: what a person
may do is looked up at each press.
"""

from __future__ import annotations

from datetime import datetime, timedelta

import msgspec
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncConnection

from broker import audit, outbox
from broker.bus import OUTBOX
from broker.identity.kept import Keep, Kept, Kind
from broker.identity.link_rules import fault, in_the_way
from broker.identity.web import WebSession
from broker.reading import Reading
from broker.store import links as table
from broker.store.links import SlackLink
from workflows.model import Principal, Refusal

OFFER_LIFETIME = timedelta(minutes=10)
OVER = Refusal(
    "link-over",
    "This link is not good (any more): it works once, for ten minutes, in the browser that opened it first.",
    "Type /access link in Slack for a new one.",
)
NOT_LINKED = Refusal("not-linked", "No Slack account is linked to you.", "Type /access link in Slack.")
NAMED = Refusal(
    "named-by-policy",
    "The policy file says which Slack account is yours, so it cannot be unlinked here.",
    "Whoever keeps the policy can take it out of the file.",
)


class Account(msgspec.Struct, frozen=True):
    """A Slack account as Slack described it: a full, living member. `email` is "" where Slack did not tell a
    confirmed one.
    """

    team: str
    user: str
    team_name: str = ""
    handle: str = ""
    name: str = ""
    email: str = ""


class Offer(msgspec.Struct, frozen=True):
    """What a link stands for. `line` is what was typed and waits; `mark` is the browser that has it."""

    account: Account
    line: str = ""
    mark: str = ""


class Links:
    def __init__(self, service: Reading) -> None:
        self._service = service
        self._keep = Keep(service.store, service.clock, service.chance)

    # ------------------------------------------------------------ the offer

    async def offer(self, account: Account, line: str = "") -> str:
        """The secret of a new link for this account; an earlier one that was not used is over."""
        label = f"{account.team}/{account.user}"
        await self._keep.end_labelled(Kind.LINK, label)
        payload = msgspec.json.encode(Offer(account, line)).decode()
        return await self._keep.put(Kind.LINK, OFFER_LIFETIME, label=label, payload=payload)

    async def open(self, secret: str, session: WebSession) -> Offer | Refusal | None:
        """The offer behind a link, for the browser that has it: the first that comes with a login made since
        it was offered. None: this browser has to log in first.
        """
        kept = await self._keep.look(Kind.LINK, secret)
        if kept is None:
            return OVER
        if session.since < kept.created_at:
            return None
        if not kept.principal:
            offer = msgspec.structs.replace(_offer(kept), mark=session.mark)
            bound = msgspec.json.encode(offer).decode()
            await self._keep.bind(Kind.LINK, secret, principal=session.principal, payload=bound)
            kept = await self._keep.look(Kind.LINK, secret)
        return await self._of_this_browser(kept, session)

    async def waits(self, secret: str) -> bool:
        """Whether a link is good, without saying for whom."""
        return await self._keep.look(Kind.LINK, secret) is not None

    async def refusal(self, offer: Offer, person: Principal) -> Refusal | None:
        """What stands against linking, as things are now."""
        async with self._service.store.read() as tx:
            return await self._in_the_way(tx, offer.account, person)

    async def confirm(self, secret: str, session: WebSession, person: Principal) -> SlackLink | Refusal:
        """Link the account. Works once, and for the browser that has the offer."""
        opened = await self.open(secret, session)
        if not isinstance(opened, Offer):
            return opened or OVER
        if await self._keep.take(Kind.LINK, secret) is None:
            return OVER
        return await self._link(opened.account, person, "login", opened.line)

    async def decline(self, secret: str, session: WebSession) -> Refusal | None:
        """“That is not me”: the link is over, and the trail says so."""
        opened = await self.open(secret, session)
        if not isinstance(opened, Offer):
            return opened or OVER
        await self._keep.take(Kind.LINK, secret)
        it = opened.account
        body = {"team": it.team, "slack_user": it.user}
        await self._note("slack.link_declined", session.principal, body, session.principal)
        return None

    async def by_email(self, account: Account) -> SlackLink | None:
        """Where the policy says so: take an account for the one person with its confirmed address."""
        config = self._service.config
        person = config.directory.of_email(account.email) if account.email else None
        if not config.slack.match_email or person is None:
            return None
        made = await self._link(account, person, "email", "")
        return None if isinstance(made, Refusal) else made

    # ------------------------------------------------------------- the end

    async def unlink(self, principal: str, *, actor: str, via: str) -> SlackLink | Refusal:
        """Take somebody's link away: their own, or an administrator anybody's."""
        if actor != principal and not self._service.is_admin(actor):
            return Refusal("not-yours", "Only an administrator takes the link of somebody else away.")
        async with self._service.store.write() as tx:
            found = await table.of_people(tx, [principal])
            for link in found:
                await self._remove(tx, link, f"{actor} took it away", actor, via)
        await self._service.bus.publish(OUTBOX, "unlinked")
        if found:
            return found[0]
        return NAMED if self._service.config.directory.slack_user(principal) else NOT_LINKED

    async def account_changed(self, team: str, user: str, *, deleted: bool, email: str) -> None:
        """Slack says how an account is now: deactivated, or with another address, it is linked no more."""
        async with self._service.store.read() as tx:
            link = await table.of_account(tx, team, user)
        if link is None:
            return
        moved = bool(email and link.slack_email) and email.casefold() != link.slack_email.casefold()
        if deleted or moved:
            why = "the Slack account was deactivated" if deleted else "its e-mail address in Slack changed"
            await self._end(link, why)

    async def sweep(self) -> int:
        """Take away every link that no longer holds. Returns how many."""
        async with self._service.store.read() as tx:
            found = await table.every(tx)
        over = [(link, why) for link in found if (why := fault(link, self._service.config))]
        for link, why in over:
            await self._end(link, why)
        return len(over)

    # ----------------------------------------------------------- the inside

    async def _of_this_browser(self, kept: Kept | None, session: WebSession) -> Offer | Refusal:
        if kept is None:
            return OVER
        offer = _offer(kept)
        if kept.principal == session.principal and offer.mark == session.mark:
            return offer
        it = offer.account
        body = {"team": it.team, "slack_user": it.user, "why": "opened in a second browser"}
        await self._note("slack.link_refused", session.principal, body, session.principal)
        return OVER

    async def _in_the_way(self, tx: AsyncConnection, it: Account, person: Principal) -> Refusal | None:
        config = self._service.config
        of_account = await table.of_account(tx, it.team, it.user)
        of_person = next((at for at in await table.of_people(tx, [person.id]) if at.team == it.team), None)
        if of_account and fault(of_account, config):
            of_account = None
        if of_person and fault(of_person, config):
            of_person = None
        return in_the_way(person, it.team, it.user, it.email, config, of_account, of_person)

    async def _link(self, it: Account, person: Principal, how: str, line: str) -> SlackLink | Refusal:
        """Write the link, its audit entry and the message to the account, in one transaction."""
        await self.sweep()
        now = self._service.clock.now()
        link = SlackLink(it.team, it.user, person.id, person.email, it.email, how, now)
        try:
            async with self._service.store.write() as tx:
                refusal = await self._in_the_way(tx, it, person)
                if refusal is None and await table.of_account(tx, it.team, it.user) is None:
                    await table.add(tx, link)
                body = {"team": it.team, "slack_user": it.user}
                kind = "slack.linked" if refusal is None else "slack.link_refused"
                more = {"how": how} if refusal is None else {"code": refusal.code, "why": refusal.why}
                note = audit.Note(kind, person.id, body | more)
                await audit.append(tx, [note], at=now, actor=person.id, via="api")
                if refusal is None:
                    await _tell(tx, link, "linked", now, line=line)
        except IntegrityError:  # somebody else was first, between the look and the write
            return await self.refusal(Offer(it), person) or OVER
        await self._service.bus.publish(OUTBOX, "linked")
        return refusal or link

    async def _end(self, link: SlackLink, why: str) -> None:
        async with self._service.store.write() as tx:
            await self._remove(tx, link, why, "", "system")
        await self._service.bus.publish(OUTBOX, "unlinked")

    async def _remove(self, tx: AsyncConnection, link: SlackLink, why: str, actor: str, via: str) -> None:
        if not await table.remove(tx, link):
            return
        now = self._service.clock.now()
        body = {"team": link.team, "slack_user": link.slack_user, "why": why}
        note = audit.Note("slack.unlinked", link.principal, body)
        await audit.append(tx, [note], at=now, actor=actor, via=via)
        await _tell(tx, link, "unlinked", now, why=why)

    async def _note(self, kind: str, subject: str, body: object, actor: str) -> None:
        async with self._service.store.write() as tx:
            note = audit.Note(kind, subject, body)
            await audit.append(tx, [note], at=self._service.clock.now(), actor=actor, via="api")


async def _tell(tx: AsyncConnection, link: SlackLink, what: str, now: datetime, **more: str) -> None:
    """Leave a message to the account behind; bot/link_courier.py brings it."""
    told = {"what": what, "principal": link.principal} | more
    await outbox.tell_accounts(tx, [link.slack_user], told, now)


def _offer(kept: Kept) -> Offer:
    return msgspec.json.decode(kept.payload, type=Offer)
