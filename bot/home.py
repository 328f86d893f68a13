"""The home tab: what one has, what one asked for, what waits for one's decision."""

from __future__ import annotations

from bot.commands import status_blocks
from bot.desk import Moment, log
from bot.markup import actions, button, context, section
from bot.slack import TROUBLE, error_of


async def publish_home(moment: Moment) -> None:
    """Show this person's home tab as the database is now."""
    ask = button("form", "Ask for access", "request", style="primary")
    head = [section("*Portcullis* opens doors when the right people say so."), actions("ask", ask)]
    blocks = [*head, *await status_blocks(moment), context("`/access help` tells the rest.")]
    user = moment.slack_user
    try:
        await moment.desk.client.views_publish(user_id=user, view={"type": "home", "blocks": blocks})
    except TROUBLE as trouble:
        log.warning("home_not_published", problem=error_of(trouble))
