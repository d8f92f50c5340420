"""Operation: flight recorder, power, systemd, self-test, signals, display."""
