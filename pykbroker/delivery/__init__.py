"""Failed deliveries and delays: what waits, when it comes back, and what becomes a dead letter."""
