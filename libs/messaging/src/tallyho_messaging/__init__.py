"""CloudEvents over RabbitMQ: topology, publisher, batching consumer, request/reply and subscriptions."""
