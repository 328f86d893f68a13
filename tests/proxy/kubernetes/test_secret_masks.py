"""The data of Secrets is in no form of an answer, and cannot be got at by writing either."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from proxy.kubernetes import changes, secrets
from proxy.kubernetes.request import understand
from proxy.kubernetes.secrets import MASK, MASK_BASE64, Events, Unmaskable, Whole

CLEAR = "correct-horse-battery"
CODED = base64.b64encode(CLEAR.encode()).decode()
APPLIED = json.dumps({"kind": "Secret", "stringData": {"password": CLEAR}, "data": {"other": CODED}})


def a_secret(**also: Any) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {
            "name": "db",
            "namespace": "prod",
            "labels": {"app": "shop"},
            "annotations": {
                "kubectl.kubernetes.io/last-applied-configuration": APPLIED,
                "note": f"the password is {CLEAR}",
                "copied": CODED,
                "owner": "sre",
            },
        },
        "type": "Opaque",
        "data": {"password": CODED, "pin": "MTI="},
        **also,
    }


def clean(raw: bytes | str) -> None:
    text = raw.decode() if isinstance(raw, bytes) else raw
    assert CLEAR not in text
    assert CODED not in text
    assert "MTI=" not in text


def whole(it: dict[str, Any], *, as_yaml: bool = False) -> bytes:
    mask = Whole(as_yaml=as_yaml)
    raw = json.dumps(it).encode()
    assert mask.feed(raw[:7]) + mask.feed(raw[7:]) == b""
    return mask.end()


PARTIAL = {key: value for key, value in a_secret().items() if key == "metadata"}
FORMS = {
    "one": a_secret(),
    "with string data": a_secret(stringData={"password": CLEAR}),
    "with an unknown field": a_secret(binaryData={"password": CODED}),
    "a list": {
        "kind": "SecretList",
        "apiVersion": "v1",
        "items": [{k: v for k, v in a_secret().items() if k != "kind"}],
    },
    "a table with metadata": {
        "kind": "Table",
        "columnDefinitions": [],
        "rows": [
            {
                "cells": ["db", "Opaque", 2],
                "object": {
                    "kind": "PartialObjectMetadata",
                    "metadata": {
                        "annotations": {"kubectl.kubernetes.io/last-applied-configuration": APPLIED}
                    },
                },
            }
        ],
    },
    "a table with objects": {"kind": "Table", "rows": [{"cells": ["db"], "object": a_secret()}]},
    "metadata": {
        "kind": "PartialObjectMetadata",
        "metadata": {
            "annotations": {"kubectl.kubernetes.io/last-applied-configuration": APPLIED, "copied": CODED}
        },
    },
}


@pytest.mark.parametrize("form", FORMS)
def test_no_form_of_an_answer_has_the_data(form: str) -> None:
    clean(whole(FORMS[form]))


@pytest.mark.parametrize("form", FORMS)
def test_nor_has_its_yaml(form: str) -> None:
    raw = whole(FORMS[form], as_yaml=True)
    clean(raw)
    assert yaml.safe_load(raw)["kind"] == FORMS[form]["kind"]


def test_nor_has_a_watch_wherever_its_bytes_are_cut() -> None:
    events = [{"type": "ADDED", "object": a_secret()}, {"type": "BOOKMARK", "object": a_secret(data=None)}]
    raw = b"".join(json.dumps(event).encode() + b"\n" for event in events)
    for size in (1, 7, 100, len(raw)):
        mask = Events()
        out = b"".join(mask.feed(raw[at : at + size]) for at in range(0, len(raw), size)) + mask.end()
        clean(out)
        assert [json.loads(line)["type"] for line in out.splitlines()] == ["ADDED", "BOOKMARK"]


def test_what_is_no_secret_stays_readable() -> None:
    it = json.loads(whole(a_secret()))
    assert it["data"] == {"password": MASK_BASE64, "pin": MASK_BASE64}
    assert base64.b64decode(it["data"]["password"]).decode() == MASK
    assert it["metadata"]["labels"] == {"app": "shop"}
    assert it["metadata"]["annotations"]["owner"] == MASK, "nobody knows what a note holds"
    assert it["metadata"]["annotations"]["kubectl.kubernetes.io/last-applied-configuration"] == "{}"
    assert it["type"] == "Opaque"


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"[]",
        b"{",
        b'{"kind":"ConfigMap","data":{"a":"b"}}',
        b'{"kind":"List","items":[]}',
        b'{"data":{"password":"eA=="}}',
        b'{"type":"ADDED","object":{"kind":"Pod"}}',
        b'{"kind":"SecretList","items":["x"]}',
        b"\x6b\x38\x73\x00\x0a",
        b"{" * 100_000,
    ],
)
def test_an_answer_of_a_form_that_is_not_known_does_not_pass(raw: bytes) -> None:
    mask = Whole()
    mask.feed(raw)
    with pytest.raises(Unmaskable):
        mask.end()


def test_a_status_passes() -> None:
    it = {"kind": "Status", "status": "Failure", "message": "not found", "code": 404}
    assert json.loads(whole(it)) == it


values = st.dictionaries(st.text(min_size=1, max_size=8), st.binary(min_size=4, max_size=24), min_size=1)


@given(values, st.sampled_from(["Secret", "Table", "SecretList"]))
def test_no_value_is_ever_in_what_the_client_gets(held: dict[str, bytes], form: str) -> None:
    coded = {f"k{index}": base64.b64encode(value).decode() for index, value in enumerate(held.values())}
    notes = {f"n{index}": value for index, value in enumerate(coded.values())}
    one = {"kind": "Secret", "metadata": {"name": "x", "annotations": notes}, "data": coded}
    shaped = {
        "Secret": one,
        "Table": {"kind": "Table", "rows": [{"cells": [], "object": one}]},
        "SecretList": {"kind": "SecretList", "items": [one]},
    }[form]
    out = whole(shaped).decode()
    assert not any(value in out for value in coded.values() if value not in MASK_BASE64)


# ------------------------------------------------------------------ asking


@pytest.mark.parametrize(
    ("accept", "asked", "as_yaml"),
    [
        ("", "application/json", False),
        ("*/*", "application/json", False),
        ("application/vnd.kubernetes.protobuf, application/json", "application/json", False),
        ("application/vnd.kubernetes.protobuf,*/*", "application/json", False),
        ("application/cbor, application/*", "application/json", False),
        (
            "application/json;as=Table;v=v1;g=meta.k8s.io,application/vnd.kubernetes.protobuf;as=Table",
            "application/json;as=Table;v=v1;g=meta.k8s.io",
            False,
        ),
        ("application/yaml", "application/json", True),
        ("application/yaml, application/json", "application/json", False),
        ("Application/JSON", "Application/JSON", False),
    ],
)
def test_the_server_is_asked_only_for_what_can_be_masked(accept: str, asked: str, as_yaml: bool) -> None:
    assert secrets.accepted(accept) == (asked, as_yaml)


@pytest.mark.parametrize(
    "accept", ["application/vnd.kubernetes.protobuf", "application/cbor", "application/jsonx", "text/html"]
)
def test_a_client_that_takes_nothing_else_is_refused(accept: str) -> None:
    with pytest.raises(Unmaskable):
        secrets.accepted(accept)


@pytest.mark.parametrize(
    ("kind", "coding"),
    [("application/vnd.kubernetes.protobuf", ""), ("application/json", "gzip"), ("", ""), ("text/plain", "")],
)
def test_an_answer_in_another_form_than_was_asked_for_does_not_pass(kind: str, coding: str) -> None:
    with pytest.raises(Unmaskable):
        secrets.check_form(kind, coding)


# ------------------------------------------------------------------ writing


@pytest.mark.parametrize(
    "steps",
    [
        [{"op": "copy", "from": "/data/password", "path": "/metadata/annotations/x"}],
        [{"op": "move", "from": "/data/password", "path": "/metadata/labels/x"}],
        [{"op": "test", "path": "/data/password", "value": "Z3Vlc3M="}],
        [
            {"op": "add", "path": "/data/a", "value": "eA=="},
            {"op": "co\u0070y", "from": "/data", "path": "/x"},
        ],
        [{"path": "/data"}],
        ["copy"],
        {"op": "copy"},
        "{",
    ],
)
def test_a_json_patch_cannot_carry_the_data_elsewhere_or_guess_it(steps: Any) -> None:
    body = steps.encode() if isinstance(steps, str) else json.dumps(steps).encode()
    with pytest.raises(Unmaskable):
        secrets.check_written(body, "Application/JSON-Patch+json; charset=utf-8")


def test_other_patches_and_steps_pass() -> None:
    secrets.check_written(
        b'[{"op":"replace","path":"/data/a","value":"eA=="}]', "application/json-patch+json"
    )
    secrets.check_written(b'{"data":{"a":"eA=="}}', "application/merge-patch+json")


@pytest.mark.parametrize("text", [MASK, MASK_BASE64])
def test_the_mask_is_not_stored_in_place_of_the_data(text: str) -> None:
    with pytest.raises(Unmaskable):
        secrets.check_written(json.dumps({"data": {"password": text}}).encode(), "application/json")


SECRET = "/api/v1/namespaces/prod/secrets/db"
APPLY = "application/apply-patch+yaml"


@pytest.mark.parametrize(
    ("query", "kind", "body"),
    [
        ("fieldManager=me", APPLY, b'{"data":{"password":"Z3Vlc3M="}}'),
        ("fieldManager=me&force=false", APPLY, b'{"data":{"password":"Z3Vlc3M="}}'),
        ("dryRun=All&force=0", APPLY, b"data: {password: Z3Vlc3M=}"),
        ("", "application/merge-patch+json", b'{"immutable":true}'),
        ("", "application/merge-patch+json", b'{"\\u0069mmutable":true}'),
        ("", "application/json-patch+json", b'[{"op":"add","path":"/immutable","value":true}]'),
        ("", "application/json-patch+json", b'[{"op":"add","path":"","value":{"immutable":true}}]'),
        ("force=true", APPLY, b"data: {a: Yg==}\nimmutable: yes"),
        ("force=true", APPLY, b"{a: &x [1], b: *x, c: ["),
    ],
)
def test_no_change_is_an_oracle_for_what_is_masked(query: str, kind: str, body: bytes) -> None:
    api = understand("PATCH", f"{SECRET}?{query}" if query else SECRET, kind)
    with pytest.raises(Unmaskable):
        secrets.check_changed(body, api)


def test_other_changes_pass() -> None:
    forced = understand("PATCH", f"{SECRET}?force=true", APPLY)
    secrets.check_changed(b"data: {password: Z3Vlc3M=}", forced)
    patch = understand("PATCH", SECRET, "application/merge-patch+json")
    secrets.check_changed(b'{"data":{"x":"eA=="},"metadata":{"annotations":{"n":"\\"immutable\\""}}}', patch)


@pytest.mark.parametrize("kind", ["application/vnd.kubernetes.protobuf", "application/cbor", "text/plain"])
def test_a_secret_is_written_in_a_form_that_is_read(kind: str) -> None:
    with pytest.raises(Unmaskable):
        secrets.check_written(b"k8s\0", kind)


@pytest.mark.parametrize(
    "body",
    [
        b'{"type":"kubernetes.io/service-account-token"}',
        b'{"type":"kubernetes.io/service\\u002daccount-token"}',
        b"type: kubernetes.io/service-account-token",
        b'{"type":"bootstrap.kubernetes.io\\/token","stringData":{"token-id":"abcdef"}}',
        b'[{"op":"replace","path":"/type","value":"kubernetes.io/service-account-token"}]',
        b"k8s\0\x1a\x23kubernetes.io/service-account-token",
        b"k8s\0 \\u006b",
    ],
)
def test_a_secret_that_is_or_becomes_a_token_for_the_cluster_is_found(body: bytes) -> None:
    assert secrets.makes_token(body)


def test_neither_depth_nor_aliases_cost_more_than_they_are() -> None:
    deep = b"[" * 900 + b'"kubernetes.io\\/service-account-token"' + b"]" * 900
    assert secrets.makes_token(deep)
    bomb = "a0: &a0 [x, x]\n" + "".join(
        f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]\n" for n in range(1, 60)
    )
    assert not secrets.makes_token(bomb.encode())
    secrets.check_changed(bomb.encode(), understand("PATCH", f"{SECRET}?force=true", APPLY))


def test_another_secret_is_none() -> None:
    assert not secrets.makes_token(b'{"type":"Opaque","data":{"a":"eA=="}}')
    assert not secrets.makes_token(b"type: Opaque")


def test_who_owns_a_field_is_told_of_no_masked_secret() -> None:
    fields = [{"manager": "me", "fieldsV1": {"f:data": {"f:password": {}}}}]
    it = a_secret()
    it["metadata"]["managedFields"] = fields
    assert b"f:password" not in whole(it)


# --------------------------------------------------------------------- diff


def test_a_diff_shows_which_values_change_and_not_what_they_are() -> None:
    after = a_secret(data={"password": base64.b64encode(b"another").decode(), "pin": "MTI="})
    text = changes.diff(a_secret(), after, b"key")
    clean(text)
    assert "another" not in text
    assert [line.split(":")[0] for line in text.splitlines() if line[:2] in ("- ", "+ ")] == [
        "-  password",
        "+  password",
    ]


def test_a_diff_is_of_what_people_wrote() -> None:
    def deployment(image: str, version: int) -> dict[str, Any]:
        return {
            "kind": "Deployment",
            "metadata": {
                "name": "web",
                "resourceVersion": str(version),
                "managedFields": [{"time": version}],
            },
            "spec": {"template": {"spec": {"containers": [{"image": image, "name": "web"}]}}},
            "status": {"replicas": version},
        }

    text = changes.diff(deployment("web:1", 1), deployment("web:2", 2), b"")
    changed = [
        line.strip() for line in text.splitlines() if line[0] in "+-" and line[:3] not in ("---", "+++")
    ]
    assert changed == ["-      - image: web:1", "+      - image: web:2"]
