"""What the responder counts, for Prometheus."""

from __future__ import annotations

from typing import Final

from prometheus_client import Counter, Gauge

CONSUMED: Final = Counter("watchkeeper_responder_records_total", "Records taken in.", ["topic"])
MALFORMED: Final = Counter(
    "watchkeeper_responder_malformed_total", "Records that could not be read and were passed over.", ["topic"]
)
UNKNOWN_ACKS: Final = Counter(
    "watchkeeper_responder_unknown_acks_total", "Acks of commands that were never issued by this store."
)
PAGES: Final = Counter(
    "watchkeeper_pages_total", "Attempts to page, by how they ended.", ["channel", "outcome"]
)
EDITS: Final = Counter(
    "watchkeeper_page_edits_total", "Edits of pages, by how they ended.", ["channel", "outcome"]
)
PICTURES: Final = Counter(
    "watchkeeper_pictures_total", "Attempts to show a picture, by how they ended.", ["channel", "outcome"]
)
COMMANDS: Final = Counter(
    "watchkeeper_commands_published_total", "Publications of control commands.", ["mode", "outcome"]
)
POLICY_TAKEN: Final = Counter("watchkeeper_policy_taken_total", "Policy files taken while running.")
POLICY_REFUSED: Final = Gauge(
    "watchkeeper_policy_refused", "1 while the policy file is not used because something is wrong in it."
)
STORE_WAITS: Final = Counter("watchkeeper_store_unavailable_total", "Times the store did not answer.")
INTERACTIONS: Final = Counter(
    "watchkeeper_slack_requests_total", "What people pressed and typed in Slack.", ["what", "result"]
)
SLACK_CONNECTED: Final = Gauge("watchkeeper_slack_socket_connected", "Whether Socket Mode is connected.")
