"""Kestrel: real-time object detection for edge devices."""

__version__ = "0.1.0"
