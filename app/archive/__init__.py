"""Archives of recordings, clip by clip, on one machine or many."""
