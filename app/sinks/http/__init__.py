"""The live page, its stream, health and metrics."""
