"""Hostile input: what no client should send, and what the broker does about it."""
