"""What runs behind a window: a source and an engine that may be changed, lost, and come back."""
