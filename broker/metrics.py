"""What the broker counts, for Prometheus. Labels hold kinds and codes, never people or resources."""

from __future__ import annotations

from prometheus_client import Counter, Gauge

transitions = Counter("portcullis_transitions", "Transitions of stories.", ["kind"])
refusals = Counter("portcullis_refusals", "What was refused.", ["verb", "code"])
repeats = Counter("portcullis_repeated_deliveries", "Deliveries that had come before.", ["via"])
admissions = Counter("portcullis_admissions", "Knocks at the gate by outcome.", ["outcome"])
outbox_done = Counter("portcullis_outbox_done", "Work done from the outbox.", ["kind"])
outbox_failed = Counter("portcullis_outbox_failed", "Attempts at work that failed.", ["kind"])
sessions_lost = Counter("portcullis_sessions_lost", "Sessions whose gate fell silent.")
sweep_failures = Counter("portcullis_sweep_failures", "Sweeps of the scheduler that failed.")
bus_failures = Counter("portcullis_bus_failures", "Times that the bus could not be reached.")
deadline_lag = Gauge("portcullis_deadline_lag_seconds", "How late the last due story was ended.")
