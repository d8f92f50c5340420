"""Where results go: JSON lines, an annotated video, the terminal, the window's mailbox."""
