"""Sequential tests with a stated false-alarm run length."""
