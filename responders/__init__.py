"""What is done about a detection: incident, page, containment, proof.

A pure decider (`decide`) folds the incident's events and returns facts and effects; one transaction
(`event_store`) keeps them; executors (`slack`, `control`, …) carry the effects out and feed the outcome
back in.
"""
