"""Where pages go: a channel a file, what they share over HTTP, and how the settings open them."""
