"""The sequential tests: run lengths, delays, references and bounds; small counts, seeded."""
