"""Benchmarks: pykbroker beside a warmed-up Apache Kafka, in the same run."""
