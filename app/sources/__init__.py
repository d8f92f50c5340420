"""Where frames come from: cameras, streams, files, folders and the test pattern."""
