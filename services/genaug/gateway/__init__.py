"""Gateway: one address for all services, for callers outside a cluster."""
