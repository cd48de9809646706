"""pykbroker: a Kafka-API-compatible message broker, written as a framework."""
