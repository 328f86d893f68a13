"""What providers send, as the resources that scim2-models knows, and what this service says of itself.

Okta and Entra ID speak dialects of PATCH. What is only spelled differently (`Replace`, `"False"`, a path
inside a value) is put right here; what they leave open, the policy of scim2-models reads as they mean it.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from scim2_models import (
    AuthenticationScheme,
    Bulk,
    ChangePassword,
    EnterpriseUser,
    ETag,
    Filter,
    Group,
    InvalidSyntaxException,
    Patch,
    ResourceType,
    ScimPolicy,
    ScimProvider,
    ServiceProviderConfig,
    Sort,
    User,
)

MOST = 200
"""How many resources one page holds."""

TOLERANT = ScimPolicy(
    unknown=ScimPolicy.Unknown.ignore,
    remove_value_as_filter=ScimPolicy.RemoveValue.apply,
    unmatched_path_filter=ScimPolicy.UnmatchedPathFilter.create,
)

PROVIDER = ScimProvider(
    models=[User, Group, EnterpriseUser],
    resource_types=[ResourceType.from_resource(User[EnterpriseUser]), ResourceType.from_resource(Group)],
    config=ServiceProviderConfig(
        documentation_uri=None,
        patch=Patch(supported=True),
        bulk=Bulk(supported=False, max_operations=0, max_payload_size=0),
        filter=Filter(supported=True, max_results=MOST),
        change_password=ChangePassword(supported=False),
        sort=Sort(supported=False),
        etag=ETag(supported=True),
        authentication_schemes=[
            AuthenticationScheme(
                type=AuthenticationScheme.Type.oauthbearertoken,
                name="Bearer token",
                description="A token of this provider's own: access provisioning token NAME",
            )
        ],
    ),
    policy=TOLERANT,
)

_TRUE = {"true": True, "false": False}


def tidy_user(payload: Any) -> dict[str, Any]:
    """A user as sent, with what is only spelled differently put right. Raises InvalidSyntaxException."""
    it = _mapping(payload)
    if "active" in it:
        it["active"] = truth(it["active"])
    # A password is nothing to us, and must not come to rest anywhere.
    it.pop("password", None)
    return it


def tidy_patch(payload: Any, *, user: bool) -> dict[str, Any]:
    """A PATCH message as sent, the same way. Raises InvalidSyntaxException."""
    it = _mapping(payload)
    name = next((key for key in it if key.casefold() == "operations"), "Operations")
    operations = it.pop(name, None)
    if not isinstance(operations, list) or not all(isinstance(one, dict) for one in operations):
        raise InvalidSyntaxException(detail="Operations must be a list of objects")
    it["Operations"] = [done for one in operations for done in _operation(one, user=user)]
    return it


def _operation(sent: dict[str, Any], *, user: bool) -> Iterator[dict[str, Any]]:
    one = {("op" if key.casefold() == "op" else key): value for key, value in sent.items()}
    if isinstance(one.get("op"), str):
        one["op"] = one["op"].casefold()
    path, value = one.get("path") or "", one.get("value")
    if user and str(path).casefold() == "password":
        return
    if user and str(path).casefold() == "active":
        one["value"] = truth(value)
    if path or not isinstance(value, dict):
        yield one
        return
    # Entra writes paths as keys: {"name.givenName": "Ada", "active": "False"}.
    plain = {key: item for key, item in value.items() if not _is_path(key)}
    plain = {key: item for key, item in plain.items() if not (user and key.casefold() == "password")}
    if user and "active" in plain:
        plain["active"] = truth(plain["active"])
    plain.pop("id", None)  # Okta repeats the id beside what it changes
    if plain:
        yield {**one, "value": plain}
    for key, item in value.items():
        if _is_path(key):
            yield {**one, "path": key, "value": item}


def _is_path(key: str) -> bool:
    return "[" in key or ("." in key and not key.casefold().startswith("urn:"))


def truth(value: Any) -> Any:
    """A boolean for the words that Entra sends in its place; anything else as it is."""
    while isinstance(value, list) and len(value) == 1:
        value = value[0].get("value") if isinstance(value[0], dict) else value[0]
    return _TRUE.get(value.casefold(), value) if isinstance(value, str) else value


def _mapping(payload: Any) -> dict[str, Any]:
    if not isinstance(payload, dict):
        raise InvalidSyntaxException(detail="The body must be a JSON object")
    return dict(payload)
