"""Declarations of all served messages, one module per Kafka API."""
