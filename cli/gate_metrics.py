"""The counts of the gate in this process, for Prometheus. Worker processes count for themselves alone."""

from __future__ import annotations

from collections.abc import Iterator

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from proxy.gate import Gate

COUNTERS = {
    "opened": "Sessions that were let in.",
    "turned_away": "Clients that were not let in.",
    "cuts": "Sessions that were cut.",
    "statements": "Statements that were executed.",
    "refused": "Statements that were refused.",
    "rows": "Rows that went to clients.",
    "bytes_in": "Bytes from clients.",
    "bytes_out": "Bytes to clients.",
}


class GateCollector(Collector):
    """Register it with a prometheus_client registry; unregister it when the gate stops."""

    def __init__(self, gate: Gate) -> None:
        self._gate = gate

    def collect(self) -> Iterator[Metric]:
        counts = self._gate.metrics()
        yield GaugeMetricFamily("portcullis_gate_open", "Sessions that are open now.", counts.open)
        for name, about in COUNTERS.items():
            yield CounterMetricFamily(f"portcullis_gate_{name}", about, getattr(counts, name))
