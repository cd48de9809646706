"""kill -9 under load, and damage to files: what must survive, checked record by record."""
