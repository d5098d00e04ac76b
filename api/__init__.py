"""The HTTP API: telemetry in, incidents out, decisions for enforcement points, what people press."""
