"""What runs beside an agent: publish its events, check each call, obey the control topic."""

from watchkeeper_client.control import TrustedKeys, UnusableKeyError
from watchkeeper_client.events import Session
from watchkeeper_client.gate import Denied, Gate, Halted, approved
from watchkeeper_client.publisher import Watchkeeper
from watchkeeper_client.trusted import TrustedKeysFile
from watchkeeper_client.wanted import Decision, WantedState

__all__ = [
    "Decision",
    "Denied",
    "Gate",
    "Halted",
    "Session",
    "TrustedKeys",
    "TrustedKeysFile",
    "UnusableKeyError",
    "WantedState",
    "Watchkeeper",
    "approved",
]
