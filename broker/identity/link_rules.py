"""Whether a link between a Slack account and a person may be made, and whether it still holds. Pure."""

from __future__ import annotations

from broker.config import Config
from broker.store.links import SlackLink
from workflows.model import Principal, PrincipalKind, Refusal


def fault(link: SlackLink, config: Config) -> str:
    """Why a link is over, in words that follow “because”; "" where it holds."""
    directory = config.directory
    person = directory.principal(link.principal)
    if person is None:
        return f"{link.principal} is not known here any more"
    if not person.active and not person.locked:
        return f"{link.principal} is not active any more"
    if person.email.casefold() != link.email.casefold():
        return f"the e-mail address of {link.principal} has changed"
    if directory.slack_user(person.id):
        return f"the policy file names the Slack account of {link.principal}"
    if directory.of_slack(link.team, link.slack_user):
        return "the policy file gives this Slack account to somebody else"
    if link.how == "email" and not config.slack.match_email:
        return "the policy no longer takes an e-mail address for enough"
    return ""


def in_the_way(
    person: Principal,
    team: str,
    user: str,
    email: str,
    config: Config,
    of_account: SlackLink | None,
    of_person: SlackLink | None,
) -> Refusal | None:
    """What stands against linking this account to this person; `email` is the account's, where Slack told it.

    `of_account` and `of_person` are the links in the same workspace that hold now.
    """
    directory, named = config.directory, config.directory.slack_user(person.id)
    if not person.active or person.kind is not PrincipalKind.PERSON:
        return Refusal("not-a-person", "Only active people link a Slack account.", "An agent uses the API.")
    if config.slack.team and team != config.slack.team:
        return Refusal("wrong-workspace", "This is an account of another workspace.", "Use the one served.")
    if named:
        return Refusal(
            "named-by-policy",
            f"The policy file says which Slack account is yours: {named}.",
            "Whoever keeps the policy can take it out of the file.",
        )
    if directory.of_slack(team, user):
        return Refusal(
            "account-taken", "The policy file gives this Slack account to somebody else.", _NOT_YOURS
        )
    if of_account and of_account.principal != person.id:
        return Refusal("account-taken", "This Slack account is linked to somebody else.", _NOT_YOURS)
    if of_person and of_person.slack_user != user:
        return Refusal(
            "linked-elsewhere",
            f"You are linked to another Slack account, {of_person.slack_user}, and one person has one.",
            "Take that link away first: access unlink, or on your account page.",
        )
    if email and not config.slack.other_email and email.casefold() != person.email.casefold():
        return Refusal(
            "other-email",
            "The e-mail address of that Slack account is not yours, so it may be somebody else's account.",
            "Use the account with your address. The policy can allow others: slack: {other_email: true}.",
        )
    return None


_NOT_YOURS = "If it is yours, that person or an administrator takes the link away: access unlink."
