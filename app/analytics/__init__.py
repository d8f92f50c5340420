"""From detections to objects: tracks, zones, lines, events and rules, as a pure function."""
