"""Pictures of pages for docs/slack: drills played through the detectors and the responder to the fake Slack,
whose web page is then photographed. `python -m tools.slack_pictures` makes them all anew.
"""
