"""The SCIM 2.0 service for an identity provider (RFC 7644), under /scim/v2.

It has a bearer token of its own and no part in the public API. Its errors are SCIM's.
"""

from __future__ import annotations

import json
import re
from collections.abc import Awaitable, Callable
from functools import wraps
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Request, Response
from pydantic import ValidationError
from scim2_models import (
    Context,
    EnterpriseUser,
    Error,
    Group,
    GroupMember,
    GroupMembership,
    InvalidSyntaxException,
    ListResponse,
    Meta,
    PatchOp,
    ResponseParameters,
    SCIMException,
    SearchRequest,
    User,
)

from broker.api.auth import P, parts_of
from broker.api.parts import Parts
from broker.identity.tokens import TokenKind
from broker.scim.keeper import Provisioning
from broker.scim.shapes import MOST, PROVIDER, tidy_patch, tidy_user
from broker.store import scim as table
from broker.store.scim import GroupRow, UserRow

MEDIA_TYPE = "application/scim+json"
AnyUser = User[EnterpriseUser]

router = APIRouter(prefix="/scim/v2", include_in_schema=False)


class ScimRefused(Exception):
    """Answer with this SCIM error."""

    def __init__(self, status: int, detail: str) -> None:
        super().__init__(detail)
        self.status = status
        self.detail = detail


async def _provider(request: Request, parts: Annotated[Parts, Depends(parts_of)]) -> Provisioning:
    """Who calls: the holder of a token for provisioning, where the policy lets people be provisioned."""
    kind, _, token = request.headers.get("authorization", "").partition(" ")
    held = None
    if kind.lower() == "bearer" and token.isascii():
        held = await parts.tokens.check(TokenKind.SCIM, token.strip())
    if held is None:
        raise ScimRefused(401, "This token is not good here (any more). Make one: access provisioning token")
    if not parts.service.file.provisioned:
        raise ScimRefused(403, "The policy takes nobody from a provider; it says so by: provisioned: true")
    return Provisioning(parts.service, held.label)


Provider = Annotated[Provisioning, Depends(_provider)]
Handler = Callable[..., Awaitable[Response]]


def _scim(handler: Handler) -> Handler:
    """Answer with SCIM's errors, and read what comes as leniently as the provider's policy says."""

    @wraps(handler)
    async def wrapped(*args: Any, **named: Any) -> Response:
        try:
            with PROVIDER:
                return await handler(*args, **named)
        except ValidationError as error:
            return _error(Error.from_validation_error(error.errors()[0]))
        except SCIMException as error:
            return _error(error.to_error())

    return wrapped


def _error(error: Error) -> Response:
    return _answer(error.model_dump(), int(error.status or 400))


def refused(_request: Request, error: Exception) -> Response:
    """The handler of ScimRefused."""
    assert isinstance(error, ScimRefused)
    answer = _error(Error(status=error.status, detail=error.detail))
    if error.status == 401:
        answer.headers["WWW-Authenticate"] = "Bearer"
    return answer


def _answer(content: dict[str, Any], status: int = 200) -> Response:
    headers = {}
    meta = content.get("meta") or {}
    if version := meta.get("version"):
        headers["ETag"] = version
    if location := meta.get("location"):
        headers["Location" if status == 201 else "Content-Location"] = location
    return Response(json.dumps(content), status, headers, MEDIA_TYPE)


async def _body(request: Request) -> Any:
    try:
        return json.loads(await request.body())
    except ValueError:
        raise InvalidSyntaxException(detail="The body is not JSON") from None


def _wanted(request: Request) -> ResponseParameters[Any]:
    return ResponseParameters.model_validate(
        {k: v for k, v in request.query_params.items() if k in ("attributes", "excludedAttributes")}
    )


def _if_match(request: Request) -> Callable[[UserRow | GroupRow], None]:
    """The check of RFC 7644 section 3.14: change only what the caller has seen."""
    asked = request.headers.get("if-match", "")

    def check(row: UserRow | GroupRow) -> None:
        tags = [tag.strip() for tag in asked.split(",")]
        if asked and asked.strip() != "*" and _etag(row) not in tags:
            raise ScimRefused(412, "It has changed since you looked")

    return check


def _etag(row: UserRow | GroupRow) -> str:
    return f'W/"{row.version}"'


def _meta(parts: Parts, kind: str, row: UserRow | GroupRow) -> Meta:
    return Meta(
        resource_type=kind,
        version=_etag(row),
        created=row.created_at,
        last_modified=row.changed_at,
        location=f"{parts.public_url}/scim/v2/{kind}s/{row.id}",
    )


# ------------------------------------------------------------------- users


def _user(parts: Parts, row: UserRow, groups: list[tuple[str, str]]) -> AnyUser:
    user = AnyUser.model_validate(json.loads(row.document))
    user.id, user.meta = row.id, _meta(parts, "User", row)
    if user.active is not None:  # taken away, it is not shown, and holds on
        user.active = row.active
    base = f"{parts.public_url}/scim/v2/Groups/"
    if groups:
        user.groups = [
            GroupMembership.model_validate({"value": key, "display": name, "$ref": base + key})
            for key, name in groups
        ]
    return user


async def _shown_user(
    parts: Parts, request: Request, row: UserRow, context: Context, status: int = 200
) -> Response:
    async with parts.service.store.read() as tx:
        groups = (await table.groups_of(tx, [row.id])).get(row.id, [])
    user = _user(parts, row, groups)
    return _answer(user.model_dump(scim_ctx=context, response_parameters=_wanted(request)), status)


@router.get("/Users")
@_scim
async def users(request: Request, parts: P, _provider: Provider) -> Response:
    asked = SearchRequest[AnyUser].model_validate(dict(request.query_params))
    return await _users(parts, asked, Context.RESOURCE_QUERY_RESPONSE)


@router.post("/Users/.search")
@_scim
async def search_users(request: Request, parts: P, _provider: Provider) -> Response:
    asked = SearchRequest[AnyUser].model_validate(await _body(request), scim_ctx=Context.SEARCH_REQUEST)
    return await _users(parts, asked, Context.SEARCH_RESPONSE)


@router.post("/Users")
@_scim
async def create_user(request: Request, parts: P, provider: Provider) -> Response:
    sent = tidy_user(await _body(request))
    user = AnyUser.model_validate(sent, scim_ctx=Context.RESOURCE_CREATION_REQUEST)
    row = await provider.create_user(user)
    return await _shown_user(parts, request, row, Context.RESOURCE_CREATION_RESPONSE, 201)


@router.get("/Users/{key}")
@_scim
async def user(key: str, request: Request, parts: P, _provider: Provider) -> Response:
    async with parts.service.store.read() as tx:
        row = await table.user(tx, key)
    if row is None:
        raise ScimRefused(404, "There is no such user")
    if _etag(row) in request.headers.get("if-none-match", ""):
        return Response(status_code=304, headers={"ETag": _etag(row)})
    return await _shown_user(parts, request, row, Context.RESOURCE_QUERY_RESPONSE)


@router.put("/Users/{key}")
@_scim
async def replace_user(key: str, request: Request, parts: P, provider: Provider) -> Response:
    sent = tidy_user(await _body(request))
    new = AnyUser.model_validate(sent, scim_ctx=Context.RESOURCE_REPLACEMENT_REQUEST)

    def change(row: UserRow) -> AnyUser:
        new.replace(_user(parts, row, []))
        return new

    row = await provider.change_user(key, change, _if_match(request))
    return await _shown_user(parts, request, row, Context.RESOURCE_REPLACEMENT_RESPONSE)


@router.patch("/Users/{key}")
@_scim
async def patch_user(key: str, request: Request, parts: P, provider: Provider) -> Response:
    sent = tidy_patch(await _body(request), user=True)
    patch = None
    if sent["Operations"]:  # not only a password, which is nothing to us
        patch = PatchOp[AnyUser].model_validate(sent, scim_ctx=Context.RESOURCE_PATCH_REQUEST)

    def change(row: UserRow) -> AnyUser:
        user = _user(parts, row, [])
        if patch is not None:
            patch.patch(user)
        return user

    row = await provider.change_user(key, change, _if_match(request))
    return await _shown_user(parts, request, row, Context.RESOURCE_PATCH_RESPONSE)


@router.delete("/Users/{key}")
@_scim
async def delete_user(key: str, request: Request, provider: Provider) -> Response:
    await provider.delete_user(key, _if_match(request))
    return Response(status_code=204)


# ------------------------------------------------------------------ groups


def _group(parts: Parts, row: GroupRow, members: list[tuple[str, str]]) -> Group:
    group = Group.model_validate(json.loads(row.document))
    group.id, group.meta = row.id, _meta(parts, "Group", row)
    base = f"{parts.public_url}/scim/v2/Users/"
    if members:
        group.members = [
            GroupMember.model_validate({"value": key, "display": name, "type": "User", "$ref": base + key})
            for key, name in members
        ]
    return group


def _members(group: Group) -> dict[str, str]:
    """Who is in it, and how the provider shows them."""
    return {str(it.value): (it.display or "")[:320] for it in group.members or [] if it.value}


async def _shown_group(
    parts: Parts, request: Request, row: GroupRow, context: Context, status: int = 200
) -> Response:
    async with parts.service.store.read() as tx:
        members = (await table.members(tx, [row.id])).get(row.id, [])
    group = _group(parts, row, members)
    return _answer(group.model_dump(scim_ctx=context, response_parameters=_wanted(request)), status)


@router.get("/Groups")
@_scim
async def groups(request: Request, parts: P, _provider: Provider) -> Response:
    asked = SearchRequest[Group].model_validate(dict(request.query_params))
    return await _groups(parts, asked, Context.RESOURCE_QUERY_RESPONSE)


@router.post("/Groups/.search")
@_scim
async def search_groups(request: Request, parts: P, _provider: Provider) -> Response:
    asked = SearchRequest[Group].model_validate(await _body(request), scim_ctx=Context.SEARCH_REQUEST)
    return await _groups(parts, asked, Context.SEARCH_RESPONSE)


@router.post("/Groups")
@_scim
async def create_group(request: Request, parts: P, provider: Provider) -> Response:
    group = Group.model_validate(await _body(request), scim_ctx=Context.RESOURCE_CREATION_REQUEST)
    row = await provider.create_group(group, _members(group))
    return await _shown_group(parts, request, row, Context.RESOURCE_CREATION_RESPONSE, 201)


@router.get("/Groups/{key}")
@_scim
async def group(key: str, request: Request, parts: P, _provider: Provider) -> Response:
    async with parts.service.store.read() as tx:
        row = await table.group(tx, key)
    if row is None:
        raise ScimRefused(404, "There is no such group")
    if _etag(row) in request.headers.get("if-none-match", ""):
        return Response(status_code=304, headers={"ETag": _etag(row)})
    return await _shown_group(parts, request, row, Context.RESOURCE_QUERY_RESPONSE)


@router.put("/Groups/{key}")
@_scim
async def replace_group(key: str, request: Request, parts: P, provider: Provider) -> Response:
    new = Group.model_validate(await _body(request), scim_ctx=Context.RESOURCE_REPLACEMENT_REQUEST)

    def change(row: GroupRow, there: list[tuple[str, str]]) -> tuple[Group, dict[str, str]]:
        new.replace(_group(parts, row, there))
        return new, _members(new)

    row = await provider.change_group(key, change, _if_match(request))
    return await _shown_group(parts, request, row, Context.RESOURCE_REPLACEMENT_RESPONSE)


@router.patch("/Groups/{key}")
@_scim
async def patch_group(key: str, request: Request, parts: P, provider: Provider) -> Response:
    sent = tidy_patch(await _body(request), user=False)
    patch = PatchOp[Group].model_validate(sent, scim_ctx=Context.RESOURCE_PATCH_REQUEST)

    def change(row: GroupRow, there: list[tuple[str, str]]) -> tuple[Group, dict[str, str]]:
        group = _group(parts, row, there)
        patch.patch(group)
        return group, _members(group)

    row = await provider.change_group(key, change, _if_match(request))
    return await _shown_group(parts, request, row, Context.RESOURCE_PATCH_RESPONSE)


@router.delete("/Groups/{key}")
@_scim
async def delete_group(key: str, request: Request, provider: Provider) -> Response:
    await provider.delete_group(key, _if_match(request))
    return Response(status_code=204)


# ------------------------------------------------------------------ lists

_ONE = re.compile(r'\s*(userName|externalId|displayName)\s+eq\s+"([^"\\]*)"\s*', re.IGNORECASE)
_COLUMNS = {"username": "name_key", "externalid": "external_id", "displayname": "name"}


def _quick(request: SearchRequest[Any], of: str) -> dict[str, str] | None:
    """The one column that a plain filter is about, for the database to find; None for any other filter."""
    match = _ONE.fullmatch(str(request.filter)) if request.filter else None
    name = match[1].casefold() if match else ""
    if not match or name not in (
        ("username", "externalid") if of == "User" else ("displayname", "externalid")
    ):
        return None
    return {_COLUMNS[name]: match[2].casefold() if name == "username" else match[2]}


def _span(request: SearchRequest[Any]) -> tuple[int, int]:
    """From which resource on (from 0), and how many at most (RFC 7644 section 3.4.2.4)."""
    count = MOST if request.count is None else max(0, min(request.count, MOST))
    return max(0, (request.start_index or 1) - 1), count


async def _users(parts: Parts, asked: SearchRequest[Any], context: Context) -> Response:
    (offset, count), quick = _span(asked), _quick(asked, "User")
    everything = asked.filter if quick is None else None
    async with parts.service.store.read() as tx:
        total = await table.count_users(tx, **(quick or {}))
        page = {} if everything is not None else {"offset": offset, "limit": count}
        rows = await table.users(tx, **page, **(quick or {}))  # type: ignore[arg-type]
        groups = await table.groups_of(tx, [row.id for row in rows])
    found = [_user(parts, row, groups.get(row.id, [])) for row in rows]
    if everything is not None:
        found = [one for one in found if everything.match(one)]
        total, found = len(found), found[offset : offset + count]
    return _list(ListResponse[AnyUser], found, total, offset, asked, context)


async def _groups(parts: Parts, asked: SearchRequest[Any], context: Context) -> Response:
    (offset, count), quick = _span(asked), _quick(asked, "Group")
    everything = asked.filter if quick is None else None
    async with parts.service.store.read() as tx:
        total = await table.count_groups(tx, **(quick or {}))
        page = {} if everything is not None else {"offset": offset, "limit": count}
        rows = await table.groups(tx, **page, **(quick or {}))  # type: ignore[arg-type]
        members = await table.members(tx, [row.id for row in rows])
    found = [_group(parts, row, members.get(row.id, [])) for row in rows]
    if everything is not None:
        found = [one for one in found if everything.match(one)]
        total, found = len(found), found[offset : offset + count]
    return _list(ListResponse[Group], found, total, offset, asked, context)


def _list(
    kind: Any, found: list[Any], total: int, offset: int, asked: SearchRequest[Any], context: Context
) -> Response:
    answer = kind(
        total_results=total, start_index=offset + 1, items_per_page=len(found), resources=found or None
    )
    return _answer(answer.model_dump(scim_ctx=context, response_parameters=asked))


@router.post("/.search")
@_scim
async def search(request: Request, parts: P, _provider: Provider) -> Response:
    """Users and groups at once (RFC 7644 section 3.4.2.1)."""
    asked = SearchRequest[AnyUser | Group].model_validate(
        await _body(request), scim_ctx=Context.SEARCH_REQUEST
    )
    offset, count = _span(asked)
    async with parts.service.store.read() as tx:
        users, groups = await table.users(tx), await table.groups(tx)
        of = await table.groups_of(tx, [row.id for row in users])
        members = await table.members(tx, [row.id for row in groups])
    found: list[Any] = [_user(parts, row, of.get(row.id, [])) for row in users]
    found += [_group(parts, row, members.get(row.id, [])) for row in groups]
    if asked.filter:
        found = [one for one in found if asked.filter.match(one)]
    page = found[offset : offset + count]
    return _list(ListResponse[AnyUser | Group], page, len(found), offset, asked, Context.SEARCH_RESPONSE)


# --------------------------------------------------------------- discovery


@router.get("/ServiceProviderConfig")
@_scim
async def service_provider_config(_provider: Provider) -> Response:
    assert PROVIDER.config is not None, "shapes.py gives it one"
    return _answer(PROVIDER.config.model_dump(scim_ctx=Context.RESOURCE_QUERY_RESPONSE))


@router.get("/Schemas")
@_scim
async def schemas(_provider: Provider) -> Response:
    return _whole(PROVIDER.schemas)


@router.get("/ResourceTypes")
@_scim
async def resource_types(_provider: Provider) -> Response:
    return _whole(PROVIDER.resource_types)


@router.get("/Schemas/{key:path}")
@_scim
async def schema(key: str, _provider: Provider) -> Response:
    return _named(PROVIDER.schemas, key)


@router.get("/ResourceTypes/{key}")
@_scim
async def resource_type(key: str, _provider: Provider) -> Response:
    return _named(PROVIDER.resource_types, key)


def _whole(found: Any) -> Response:
    resources = [one.model_dump(scim_ctx=Context.RESOURCE_QUERY_RESPONSE) for one in found]
    return _answer(
        {
            "schemas": ["urn:ietf:params:scim:api:messages:2.0:ListResponse"],
            "totalResults": len(resources),
            "startIndex": 1,
            "itemsPerPage": len(resources),
            "Resources": resources,
        }
    )


def _named(found: Any, key: str) -> Response:
    one = next((it for it in found if it.id == key), None)
    if one is None:
        raise ScimRefused(404, "There is no such thing here")
    return _answer(one.model_dump(scim_ctx=Context.RESOURCE_QUERY_RESPONSE))


@router.api_route("/{rest:path}", methods=["GET", "POST", "PUT", "PATCH", "DELETE"])
async def nothing(rest: str, _provider: Provider) -> Response:
    """What there is not is told in SCIM's words, too."""
    if rest.partition("/")[0] in ("ServiceProviderConfig", "Schemas", "ResourceTypes", "Users", "Groups"):
        raise ScimRefused(405, "That is not done here")
    raise ScimRefused(404, "There is no such thing here")
