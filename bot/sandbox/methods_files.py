"""files.getUploadURLExternal and files.completeUploadExternal, and the upload between them."""

from __future__ import annotations

import base64

from .core import Core
from .errors import SlackError
from .method import Call, invalid_arguments, method
from .state import File, Json, Message


@method("files.getUploadURLExternal", "files:write", tier=4)
def get_upload_url(call: Call) -> Json:
    length = call.number("length", 0)
    if length <= 0:
        raise invalid_arguments("[ERROR] must be greater than 0 [json-pointer:/length]")
    file = File(call.core.state.new_id("F"), call.required("filename"), length, user=call.core.bot_user)
    call.core.state.files[file.id] = file
    return {"upload_url": f"{call.core.base_url}/upload/v1/{file.id}", "file_id": file.id}


def receive_upload(core: Core, file_id: str, content: bytes) -> bool:
    """Take the bytes; False where no upload was announced or its length differs."""
    file = core.state.files.get(file_id)
    if file is None or file.completed or len(content) != file.length:
        return False
    file.content = base64.b64encode(content).decode()
    return True


@method("files.completeUploadExternal", "files:write", tier=4)
def complete_upload(call: Call) -> Json:
    listed = call.json_value("files", "invalid_arguments")
    if not isinstance(listed, list) or not listed:
        raise invalid_arguments("[ERROR] missing required field: files")
    done: list[File] = []
    for entry in listed:
        file = call.core.state.files.get(entry.get("id", "")) if isinstance(entry, dict) else None
        if file is None or file.content is None:
            raise SlackError("file_not_found")
        file.title = entry.get("title") or file.name
        done.append(file)
    if call.text("channel_id") or call.text("channels"):
        _share(call, done)
    for file in done:
        file.completed = True
    call.core.state.changed()
    return {"files": [call.core.file_json(file.id) for file in done]}


def _share(call: Call, files: list[File]) -> None:
    channel = call.channel("channel_id" if call.text("channel_id") else "channels")
    if channel.is_archived:
        raise SlackError("is_archived")
    if call.core.bot_user not in channel.members:
        raise SlackError("not_in_channel")
    call.core.post(
        Message(
            call.core.state.new_ts(),
            channel.id,
            call.core.bot_user,
            call.text("initial_comment"),
            thread_ts=call.text("thread_ts") or None,
            bot_id=call.core.bot_id,
            files=[file.id for file in files],
        )
    )
