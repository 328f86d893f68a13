"""What the vendors publish of the answers that are read, as JSON Schema: only the parts that matter here.

Written down from the sources named beside each, in our own words; fields that we do not read are left out.
Where a vendor publishes no schema for an answer, the source says what stands in for it.
"""

from __future__ import annotations

from typing import Any

Schema = dict[str, Any]

_TIME: Schema = {"type": "string", "format": "date-time"}
_TIME_OR_NULL: Schema = {"type": ["string", "null"], "format": "date-time"}
_TEXT: Schema = {"type": "string"}


def _object(required: tuple[str, ...] = (), **properties: Schema) -> Schema:
    return {"type": "object", "properties": properties, "required": list(required)}


def _list(of: Schema) -> Schema:
    return {"type": "array", "items": of}


# github.com/PagerDuty/api-schema, reference/REST/openapiv3.json: schema Oncall (every field optional; `start`
# is null for a permanent on-call, `end` is null where it does not end), with include[]=users the whole User
# in place of its reference; pagination fields as of “classic pagination”.
_PD_USER = _object(
    ("id", "type"), id=_TEXT, type={"enum": ["user", "user_reference"]}, name=_TEXT, email=_TEXT
)
PAGERDUTY_ONCALLS = _object(
    ("oncalls",),
    oncalls=_list(
        _object(
            escalation_policy=_object(("id", "type"), id=_TEXT, type=_TEXT),
            escalation_level={"type": "integer"},
            schedule={
                "oneOf": [
                    {"type": "null"},
                    _object(("id", "type"), id=_TEXT, type={"enum": ["schedule", "schedule_reference"]}),
                ]
            },
            user=_PD_USER,
            start=_TIME_OR_NULL,
            end=_TIME_OR_NULL,
        )
    ),
    limit={"type": "integer"},
    offset={"type": "integer"},
    more={"type": "boolean"},
    total={"type": ["integer", "null"]},
)
# The same, schema Override: start, end and user are required; when it was made is not among its fields.
PAGERDUTY_OVERRIDES = _object(
    ("overrides",),
    overrides=_list(_object(("start", "end", "user"), id=_TEXT, start=_TIME, end=_TIME, user=_PD_USER)),
)

# incident.io's published OpenAPI, through the client that its schema generates: ScheduleEntryV2 (start_at and
# end_at required, user optional) and UserV2 (id, name, role required; email, slack_user_id optional).
_IIO_ENTRY = _object(
    ("start_at", "end_at"),
    start_at=_TIME,
    end_at=_TIME,
    entry_id=_TEXT,
    rotation_id=_TEXT,
    layer_id=_TEXT,
    user=_object(("id", "name", "role"), id=_TEXT, name=_TEXT, role=_TEXT, email=_TEXT, slack_user_id=_TEXT),
)
INCIDENT_IO_SCHEDULE = _object(
    ("schedule",),
    schedule=_object(
        ("id", "name", "timezone"), id=_TEXT, name=_TEXT, timezone=_TEXT, current_shifts=_list(_IIO_ENTRY)
    ),
)
INCIDENT_IO_ENTRIES = _object(
    ("schedule_entries",),
    schedule_entries=_object(
        ("final", "overrides", "scheduled"),
        final=_list(_IIO_ENTRY),
        overrides=_list(_IIO_ENTRY),
        scheduled=_list(_IIO_ENTRY),
    ),
)

# docs.rootly.com, api-reference/oncalls/list-on-calls gives the parameters and no schema for the answer; the
# schema is that of rootlyhq/rootly-python, generated from the same OpenAPI text (model Oncall), in a JSON:API
# envelope.
ROOTLY_ONCALLS = _object(
    ("data",),
    data=_list(
        _object(
            ("id", "type", "attributes"),
            id=_TEXT,
            type=_TEXT,
            attributes=_object(
                ("escalation_policy_id", "escalation_policy_name", "user_id", "starts_at", "ends_at"),
                escalation_policy_id=_TEXT,
                escalation_policy_name=_TEXT,
                user_id={"type": "integer"},
                starts_at=_TIME,
                ends_at=_TIME,
                escalation_level={"type": "integer"},
                schedule_id={"type": ["string", "null"]},
                schedule_name={"type": ["string", "null"]},
            ),
        )
    ),
    included=_list(_object(("id", "type"), id=_TEXT, type=_TEXT, attributes={"type": "object"})),
)

# github.com/opsgenie/opsgenie-oas, definitions/whoIsOnCall.yaml: GetOnCallResponse with OnCall.
OPSGENIE_ON_CALL = _object(
    ("data",),
    data=_object(
        _parent=_object(id=_TEXT, name=_TEXT, enabled={"type": "boolean"}),
        onCallParticipants={"type": "array"},
        onCallRecipients=_list(_TEXT),
    ),
    took={"type": "number"},
    requestId=_TEXT,
)

# developer.atlassian.com, cloud/jira/service-desk-ops/rest/v2/api-group-schedule-on-calls: its OpenAPI text
# could not be had; this follows the page's description of the flat answer (a list of account ids), and the
# Jira Cloud platform API's User.
JSM_ON_CALL = _object(("onCallUsers",), onCallUsers=_list(_TEXT))
JIRA_USER = _object(
    ("accountId",), accountId=_TEXT, displayName=_TEXT, emailAddress=_TEXT, active={"type": "boolean"}
)

# github.com/grafana/oncall, docs/sources/oncall-api-reference/schedules.md and users.md: no schema is
# published, these follow the documented examples and tables.
GRAFANA_SCHEDULE = _object(
    ("id", "name", "type", "on_call_now"),
    id=_TEXT,
    name=_TEXT,
    type={"enum": ["ical", "calendar", "web"]},
    team_id={"type": ["string", "null"]},
    on_call_now=_list(_TEXT),
)
GRAFANA_USER = _object(
    ("id", "email", "username"),
    id=_TEXT,
    email=_TEXT,
    username=_TEXT,
    slack={
        "anyOf": [
            _list(_object(("user_id", "team_id"), user_id=_TEXT, team_id=_TEXT)),
            _object(("user_id", "team_id"), user_id=_TEXT, team_id=_TEXT),
            {"type": "null"},
        ]
    },
)

# github.com/PagerDuty/api-schema, schema Incident: the id is given by every reference, status is an enum.
PAGERDUTY_INCIDENT = _object(
    ("incident",),
    incident=_object(
        ("id", "type", "status"),
        id=_TEXT,
        type=_TEXT,
        incident_number={"type": "integer"},
        status={"enum": ["triggered", "acknowledged", "resolved"]},
    ),
)

# incident.io's published OpenAPI: IncidentV2 (id, reference, name, incident_status required) and
# IncidentStatusV2, whose category is an enum. The path takes the id or the number in the reference.
INCIDENT_IO_INCIDENT = _object(
    ("incident",),
    incident=_object(
        ("id", "reference", "name", "incident_status"),
        id=_TEXT,
        reference=_TEXT,
        name=_TEXT,
        incident_status=_object(
            ("id", "name", "category"),
            id=_TEXT,
            name=_TEXT,
            category={
                "enum": [
                    "triage", "declined", "merged", "canceled", "live", "learning", "closed", "paused",
                ]
            },
        ),
    ),
)  # fmt: skip

# developer.atlassian.com, Jira Cloud REST API v3, schema IssueBean with fields=status: StatusDetails and
# StatusCategory, whose keys are undefined, new, indeterminate and done.
JIRA_ISSUE = _object(
    ("id", "key", "fields"),
    id=_TEXT,
    key=_TEXT,
    fields=_object(
        ("status",),
        status=_object(
            ("name", "statusCategory"),
            name=_TEXT,
            statusCategory=_object(
                ("id", "key"),
                id={"type": "integer"},
                key={"enum": ["undefined", "new", "indeterminate", "done"]},
            ),
        ),
    ),
)
