"""What the REST API and the web UI have in common: who asks, what they may do, and how it is done and noted."""
