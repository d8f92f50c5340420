"""Engines: what runs the network, and what turns its outputs into detections."""
