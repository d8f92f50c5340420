"""One file a command: what it does, and how it is put together from concrete parts."""
