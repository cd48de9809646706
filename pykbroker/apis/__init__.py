"""One module per Kafka API: request in, response out."""
