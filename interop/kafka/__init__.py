"""A real Apache Kafka for tests: from its jars or in a container, and its own tools for reading log files."""
