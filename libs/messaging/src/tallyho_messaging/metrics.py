"""What a process tells of its dealings with the broker; docs/metrics.md says what each metric is for."""

from prometheus_client import Counter, Gauge, Histogram

SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300)
EVENTS = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1_000, 2_000, 5_000)

APPLIED = Counter("tallyho_consumer_events", "Events that were applied.", ["queue"])
APPLY_ERRORS = Counter(
    "tallyho_consumer_errors",
    "Batches that could not be applied, by kind: transient (held until the database is back) or fault.",
    ["queue", "kind"],
)
APPLY_SECONDS = Histogram(
    "tallyho_consumer_apply_seconds",
    "How long it took to apply a batch, its commit included.",
    ["queue"],
    buckets=SECONDS,
)
BATCH_EVENTS = Histogram(
    "tallyho_consumer_batch_events", "Events in a batch that was applied.", ["queue"], buckets=EVENTS
)
EVENT_AGE = Histogram(
    "tallyho_consumer_event_age_seconds",
    "From the first event of a batch to the commit that applied it.",
    ["queue"],
    buckets=SECONDS,
)
HOLDING = Gauge(
    "tallyho_consumer_holding_seconds",
    "For how long a batch has been held that can't be applied; 0 when none is.",
    ["queue"],
)
DEAD_LETTERED = Counter("tallyho_dead_lettered", "Messages or events put into the dead-letter queue.", ["queue"])

QUEUE_MESSAGES = Gauge("tallyho_queue_messages", "Messages that wait in a queue of this service.", ["queue"])
QUEUE_CONSUMERS = Gauge("tallyho_queue_consumers", "Consumers of a queue of this service, of all replicas.", ["queue"])

SERVED = Counter(
    "tallyho_requests_served", "Requests answered, by outcome: ok, or a refusal's code.", ["type", "outcome"]
)
SERVED_SECONDS = Histogram(
    "tallyho_request_seconds", "How long it took to answer a request.", ["type"], buckets=SECONDS
)
ASKED = Counter(
    "tallyho_requests_asked", "Requests sent, by outcome: ok, a refusal's code, or timed_out.", ["type", "outcome"]
)
ASKED_SECONDS = Histogram(
    "tallyho_request_asked_seconds", "How long it took to get an answer to a request.", ["type"], buckets=SECONDS
)

PUBLISH_SECONDS = Histogram(
    "tallyho_publish_seconds", "How long it took to publish a message, its confirm included.", buckets=SECONDS
)
PUBLISH_FAILURES = Counter("tallyho_publish_failures", "Messages that the broker did not take.")
CONNECTED = Gauge(
    "tallyho_broker_connected",
    "Whether a connection to the broker is up: the one that publishes, or consumes.",
    ["connection"],
)
RECONNECTS = Counter(
    "tallyho_broker_reconnects", "Times that a lost connection to the broker came back.", ["connection"]
)
