"""What a process tells of its outbox; docs/metrics.md says what each metric is for."""

from prometheus_client import Counter, Gauge, Histogram

EVENTS = (1, 2, 5, 10, 20, 50, 100)

OUTBOX_EVENTS = Gauge(
    "tallyho_outbox_events", "Events committed and not yet confirmed by the broker, of all replicas.", ["schema"]
)
OUTBOX_OLDEST = Gauge(
    "tallyho_outbox_oldest_seconds", "Age of the oldest of these events; 0 when there is none.", ["schema"]
)
PUBLISHED = Counter("tallyho_outbox_published", "Events that the broker has confirmed.")
FAILED = Counter("tallyho_outbox_failed", "Events whose publishing failed, and is tried again.")
BATCH_EVENTS = Histogram(
    "tallyho_outbox_batch_events", "Events in a message published from the outbox.", buckets=EVENTS
)
