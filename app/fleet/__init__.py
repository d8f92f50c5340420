"""Many machines: cameras shared out over nodes that meet at one NATS server."""
