"""Slack: pages, the buttons on them, and what people type. A file a concern."""
