"""What crosses the bus: one file a contract, pydantic models as the only source.

JSON Schema files and the AsyncAPI document in ``schemas/generated`` are written from these models
(``python -m schemas.export``); a test fails when they differ.
"""
