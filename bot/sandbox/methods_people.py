"""auth.test, users.* and usergroups.*"""

from __future__ import annotations

from .errors import SlackError
from .method import Call, method, page
from .state import Json, User, UserGroup


def user_json(call: Call, user: User) -> Json:
    """A user as `users.info` shows it; the e-mail address only with `users:read.email`."""
    profile: Json = {"real_name": user.real_name, "display_name": user.name, "title": user.title}
    profile["team"] = user.team_id
    if "users:read.email" in call.scopes and user.email:
        profile["email"] = user.email
    return {
        "id": user.id,
        "team_id": user.team_id,
        "name": user.name,
        "real_name": user.real_name,
        "deleted": user.deleted,
        "tz": user.tz,
        "tz_offset": user.tz_offset,
        "is_admin": user.is_admin,
        "is_owner": False,
        "is_bot": user.is_bot,
        "is_app_user": False,
        "is_restricted": user.is_restricted,
        "is_ultra_restricted": user.is_ultra_restricted,
        "is_stranger": user.is_stranger,
        "is_email_confirmed": user.is_email_confirmed,
        "updated": int(call.core.clock()),
        "profile": profile,
    }


@method("auth.test")
def auth_test(call: Call) -> Json:
    workspace = call.core.workspace
    return {
        "url": f"{call.core.base_url}/",
        "team": workspace.name,
        "team_id": workspace.team_id,
        "user": call.core.app.handle,
        "user_id": call.core.bot_user,
        "bot_id": call.core.bot_id,
        "app_id": call.core.app.id,
        "is_enterprise_install": False,
    }


@method("users.info", "users:read", tier=4)
def users_info(call: Call) -> Json:
    return {"user": user_json(call, call.user())}


@method("users.list", "users:read", tier=2)
def users_list(call: Call) -> Json:
    found, metadata = page(call, list(call.core.state.users.values()))
    return {"members": [user_json(call, user) for user in found], "response_metadata": metadata}


@method("users.lookupByEmail", "users:read.email", tier=3)
def lookup_by_email(call: Call) -> Json:
    wanted = call.required("email").lower()
    for user in call.core.state.users.values():
        if user.email.lower() == wanted and not user.deleted and not user.is_stranger:
            return {"user": user_json(call, user)}
    raise SlackError("users_not_found")


def _group_json(call: Call, group: UserGroup) -> Json:
    body: Json = {
        "id": group.id,
        "team_id": call.core.workspace.team_id,
        "is_usergroup": True,
        "name": group.name,
        "handle": group.handle,
        "date_delete": 0,
        "user_count": len(group.users),
    }
    return body | ({"users": group.users} if call.flag("include_users") else {})


@method("usergroups.list", "usergroups:read", tier=2)
def usergroups_list(call: Call) -> Json:
    return {"usergroups": [_group_json(call, group) for group in call.core.state.groups.values()]}


@method("usergroups.users.list", "usergroups:read", tier=2)
def usergroups_users_list(call: Call) -> Json:
    group = call.core.state.groups.get(call.required("usergroup"))
    if group is None:
        raise SlackError("no_such_subteam")
    users = call.core.state.users
    active = [user for user in group.users if call.flag("include_disabled") or not users[user].deleted]
    return {"users": active}
