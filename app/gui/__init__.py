"""The window, the only package that imports PyQt5; others import it inside functions only."""
