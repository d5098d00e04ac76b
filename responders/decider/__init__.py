"""The parts of `responders.decide`: what it is given, the decision in the making, and a file a concern."""
