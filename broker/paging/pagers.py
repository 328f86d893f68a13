"""Which adapter serves which kind of pager: one line plugs one in."""

from __future__ import annotations

from broker.paging import Pager
from broker.paging.grafana import Grafana
from broker.paging.incident_io import IncidentIo
from broker.paging.opsgenie import SERVICE_MANAGEMENT, Opsgenie
from broker.paging.pagerduty import PagerDuty
from broker.paging.rootly import Rootly

PAGERS: dict[str, Pager] = {
    "pagerduty": PagerDuty(),
    "incident_io": IncidentIo(),
    "rootly": Rootly(),
    "opsgenie": Opsgenie(),
    "jsm": Opsgenie(SERVICE_MANAGEMENT),
    "grafana": Grafana(),
}
