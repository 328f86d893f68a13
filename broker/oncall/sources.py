"""Which adapter answers for which source: one line plugs one in."""

from __future__ import annotations

from broker.oncall import Source
from broker.oncall.calendar import Calendar
from broker.oncall.grafana import Grafana
from broker.oncall.incident_io import IncidentIo
from broker.oncall.opsgenie import Opsgenie, ServiceManagement
from broker.oncall.pagerduty import PagerDuty
from broker.oncall.rootly import Rootly
from broker.oncall.static import Static

SOURCES: dict[str, Source] = {
    "pagerduty": PagerDuty(),
    "incident_io": IncidentIo(),
    "rootly": Rootly(),
    "opsgenie": Opsgenie(),
    "jsm": ServiceManagement(),
    "grafana": Grafana(),
    "ical": Calendar(),
    "static": Static(),
}
