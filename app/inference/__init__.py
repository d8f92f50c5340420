"""Engines of the CPU, and what all engines share before and after the network."""
