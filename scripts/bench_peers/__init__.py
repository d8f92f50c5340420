"""Kestrel and its peers over the same clip, side by side in one run."""
