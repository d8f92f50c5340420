"""Events to an MQTT broker, none lost while it is away."""
