"""Capture, hand-over and the frame loop."""
