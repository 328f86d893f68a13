"""What a signed assertion says, checked against whom it is for, when, and what was asked.

Sources: SAML core 2.0 section 2, SAML profiles 2.0 section 4.1.4.3 (what a service provider must check).
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from broker.config import SamlSettings
from broker.identity.answer import Identity, LoginError
from broker.identity.saml_xml import A, Element, P, Signed, refused

SKEW = timedelta(seconds=60)
"""How far the provider's clock may be from ours."""
BEARER = "urn:oasis:names:tc:SAML:2.0:cm:bearer"
TRANSIENT = "urn:oasis:names:tc:SAML:2.0:nameid-format:transient"
EMAIL = "urn:oasis:names:tc:SAML:1.1:nameid-format:emailAddress"
_SUCCESS = "urn:oasis:names:tc:SAML:2.0:status:Success"
_KNOWN_CONDITIONS = {A + "AudienceRestriction", A + "OneTimeUse", A + "ProxyRestriction"}


@dataclass(frozen=True, slots=True)
class Us:
    """Who we are to the provider: our entity id, and where answers to us are sent."""

    entity: str
    acs: str


@dataclass(frozen=True, slots=True)
class Heard:
    """`request` is the id of the request that it answers, "" for none. `id` must not come twice until
    `until`.
    """

    identity: Identity
    request: str
    id: str
    until: datetime


def check_response(it: Signed, settings: SamlSettings, us: Us) -> None:
    """The envelope. What is not signed there gives nothing, but must not contradict."""
    response = it.response if it.response is not None else it.outside
    if response.get("Version") != "2.0":
        raise refused("it is of another version of SAML")
    destination = response.get("Destination")
    if destination not in (us.acs, None) or (destination is None and it.response is not None):
        raise refused("it was meant for another place")
    issuer = response.find(A + "Issuer")
    if issuer is not None and text(issuer) != settings.entity:
        raise refused("it comes from somebody else")
    status = response.find(f"{P}Status/{P}StatusCode")
    code = "" if status is None else status.get("Value", "")
    if code != _SUCCESS:
        raise LoginError(f"The identity provider said no ({_last(code)}).")


def check_assertion(assertion: Element, settings: SamlSettings, us: Us, now: datetime) -> Heard:
    """Who it is about. Raises LoginError where it is not for us, not now, or does not say."""
    if assertion.get("Version") != "2.0" or text(_one(assertion, "Issuer")) != settings.entity:
        raise refused("it comes from somebody else")
    until = _conditions(_one(assertion, "Conditions"), us, now)
    request, bearer_until = _confirmation(_one(assertion, "Subject"), us, now)
    statement = assertion.find(A + "AuthnStatement")
    if statement is None:
        raise refused("it does not say that anybody logged in")
    ends = statement.get("SessionNotOnOrAfter")
    if ends and now - SKEW >= instant(ends):
        raise refused("the login at the provider is over")
    attributes = _attributes(assertion)
    identity = _identity(assertion, attributes, settings, statement.get("SessionIndex", ""))
    last = min(until, bearer_until) + SKEW
    return Heard(identity, request, assertion.get("ID", ""), last)


def _conditions(conditions: Element, us: Us, now: datetime) -> datetime:
    """When it stops being good."""
    if {child.tag for child in conditions} - _KNOWN_CONDITIONS:
        raise refused("it makes a condition that is not known here")
    start, end = conditions.get("NotBefore"), conditions.get("NotOnOrAfter")
    if end is None:
        raise refused("it does not say until when it is good")
    if start is not None and now + SKEW < instant(start):
        raise refused("it is not good yet")
    if now - SKEW >= instant(end):
        raise refused("it is no longer good")
    audiences = conditions.findall(A + "AudienceRestriction")
    if not audiences or not all(
        any(text(one) == us.entity for one in audience.findall(A + "Audience")) for audience in audiences
    ):
        raise refused("it is for another application")
    return instant(end)


def _confirmation(subject: Element, us: Us, now: datetime) -> tuple[str, datetime]:
    """Which request it answers and until when, by the one confirmation that it may be shown by us."""
    for confirmation in subject.findall(A + "SubjectConfirmation"):
        data = confirmation.find(A + "SubjectConfirmationData")
        if confirmation.get("Method") != BEARER or data is None:
            continue
        start, end = data.get("NotBefore"), data.get("NotOnOrAfter")
        if data.get("Recipient") != us.acs or end is None or now - SKEW >= instant(end):
            continue
        if start is not None and now + SKEW < instant(start):
            continue
        return data.get("InResponseTo", ""), instant(end)
    raise refused("it is not for this place, or no longer")


def _identity(
    assertion: Element, attributes: dict[str, list[str]], settings: SamlSettings, session: str
) -> Identity:
    name_id = _one(assertion, "Subject").find(A + "NameID")
    format_ = "" if name_id is None else name_id.get("Format", "")
    named = "" if name_id is None else text(name_id)
    if settings.subject:
        subject = _single(attributes, settings.subject)
    elif format_ in (TRANSIENT, EMAIL):
        raise LoginError(
            "The identity provider names your account by something that can be given to somebody else.",
            "Whoever keeps the policy names an attribute that cannot: subject: …",
        )
    else:
        subject = named
    if not subject:
        raise refused("it does not say whom it is about")
    email = _single(attributes, settings.email) if settings.email else (named if format_ == EMAIL else "")
    source = settings.groups
    return Identity(
        issuer=settings.entity,
        subject=subject,
        email=email,
        name=email if settings.match == "email" else _single(attributes, settings.match),
        groups=tuple(attributes.get(source.claim, ())) if source else None,
        session=session,
    )


def _attributes(assertion: Element) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for attribute in assertion.findall(f"{A}AttributeStatement/{A}Attribute"):
        values = [text(value) for value in attribute.findall(A + "AttributeValue")]
        found.setdefault(attribute.get("Name", ""), []).extend(values)
    return found


def _single(attributes: dict[str, list[str]], name: str) -> str:
    """The one value of an attribute; "" for none. Several are nobody."""
    values = attributes.get(name, [])
    if len(values) > 1:
        raise refused(f"it tells several of {name}")
    return values[0] if values else ""


def _one(parent: Element, name: str) -> Element:
    found = parent.findall(A + name)
    if len(found) != 1:
        raise refused(f"it does not hold exactly one {name}")
    return found[0]


def text(element: Element) -> str:
    """The whole text of an element that holds nothing else."""
    if len(element):
        raise refused("there is something in a text")
    return (element.text or "").strip()


def instant(value: str) -> datetime:
    """An xs:dateTime in UTC."""
    try:
        found = datetime.fromisoformat(value)
    except ValueError:
        raise refused("a time in it cannot be read") from None
    if found.tzinfo is None:
        raise refused("a time in it has no time zone")
    return found


def _last(code: str) -> str:
    return "".join(c for c in code.rpartition(":")[2] if c.isalnum())[:40] or "without a reason"
