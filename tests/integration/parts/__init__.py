"""Real parts for the tests: Apache Kafka, PostgreSQL, and a proxy that breaks the wire to them."""
