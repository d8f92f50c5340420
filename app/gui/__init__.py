"""The window. The only home of PyQt5: nothing else may import this package at module level."""
