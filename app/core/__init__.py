"""Value types and Protocols of the whole application. No input or output."""
