"""What the vendors publish of the pages that they take, as JSON Schema, written down in our own words.

A field that is not in a schema fails, so that nothing is sent that a vendor does not know.
"""

from __future__ import annotations

from typing import Any

_TEXT = {"type": "string", "minLength": 1}

# github.com/PagerDuty/developer-docs, docs/events-API-v2/02-Trigger-Events.md: the table of parameters, with
# its bounds. `payload` is wanted of a trigger only.
PAGERDUTY_EVENT: dict[str, Any] = {
    "type": "object",
    "required": ["routing_key", "event_action"],
    "additionalProperties": False,
    "properties": {
        "routing_key": {"type": "string", "minLength": 32, "maxLength": 32},
        "event_action": {"enum": ["trigger", "acknowledge", "resolve"]},
        "dedup_key": {"type": "string", "maxLength": 255},
        "client": _TEXT,
        "client_url": {"type": "string", "format": "uri"},
        "links": {
            "type": "array",
            "items": {"type": "object", "required": ["href"], "properties": {"href": _TEXT, "text": _TEXT}},
        },
        "images": {"type": "array"},
        "payload": {
            "type": "object",
            "required": ["summary", "source", "severity"],
            "additionalProperties": False,
            "properties": {
                "summary": {"type": "string", "maxLength": 1024, "minLength": 1},
                "source": _TEXT,
                "severity": {"enum": ["critical", "error", "warning", "info"]},
                "timestamp": {"type": "string", "format": "date-time"},
                "component": _TEXT,
                "group": _TEXT,
                "class": _TEXT,
                "custom_details": {"type": "object"},
            },
        },
    },
    "if": {"properties": {"event_action": {"const": "trigger"}}},
    "then": {"required": ["payload"]},
    "else": {"required": ["dedup_key"]},
}
# github.com/opsgenie/opsgenie-oas: CreateAlertPayload and CloseAlertPayload, with the bounds of
# docs.opsgenie.com, “Alert API”.
OPSGENIE_ALERT: dict[str, Any] = {
    "type": "object",
    "required": ["message"],
    "additionalProperties": False,
    "properties": {
        "message": {"type": "string", "maxLength": 130, "minLength": 1},
        "alias": {"type": "string", "maxLength": 512},
        "description": {"type": "string", "maxLength": 15000},
        "responders": {
            "type": "array",
            "items": {
                "type": "object",
                "required": ["type"],
                "properties": {"type": {"enum": ["team", "user", "escalation", "schedule"]}, "id": _TEXT},
            },
        },
        "entity": {"type": "string", "maxLength": 512},
        "source": {"type": "string", "maxLength": 100},
        "priority": {"enum": ["P1", "P2", "P3", "P4", "P5"]},
    },
}
OPSGENIE_CLOSE: dict[str, Any] = {
    "type": "object",
    "additionalProperties": False,
    "properties": {
        "user": _TEXT,
        "note": {"type": "string", "maxLength": 25000},
        "source": {"type": "string", "maxLength": 100},
    },
}

# incident.io's published OpenAPI, through the clients that are generated from it: schema
# AlertEventsCreateHTTPPayloadV2 (title and status required; deduplication_key required of new HTTP sources).
INCIDENT_IO_EVENT: dict[str, Any] = {
    "type": "object",
    "required": ["title", "status", "deduplication_key"],
    "additionalProperties": False,
    "properties": {
        "title": _TEXT,
        "status": {"enum": ["firing", "resolved"]},
        "deduplication_key": _TEXT,
        "description": _TEXT,
        "source_url": {"type": "string", "format": "uri"},
        "metadata": {"type": "object"},
    },
}

# docs.rootly.com, “Generic Webhook Alert Source”: any JSON object; no schema is published, since the source's
# own page says which field is what. This is what docs/how-to/break-glass.md has people set there.
ROOTLY_EVENT: dict[str, Any] = {
    "type": "object",
    "required": ["external_id", "state", "title"],
    "properties": {"external_id": _TEXT, "state": {"enum": ["triggered", "resolved"]}, "title": _TEXT},
}

# grafana.com/docs, “Configure OnCall incoming webhooks”, recognised fields for formatted webhooks: no schema
# is published, this follows the table.
GRAFANA_EVENT: dict[str, Any] = {
    "type": "object",
    "required": ["alert_uid", "title", "state"],
    "additionalProperties": False,
    "properties": {
        "alert_uid": _TEXT,
        "title": _TEXT,
        "image_url": {"type": "string", "format": "uri"},
        "state": {"enum": ["ok", "alerting"]},
        "link_to_upstream_details": {"type": "string", "format": "uri"},
        "message": _TEXT,
    },
}
