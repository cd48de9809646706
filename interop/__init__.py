"""The interop room: the same stories and probes on Apache Kafka and on pykbroker. See README.md."""
