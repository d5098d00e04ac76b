"""What people read: the page of an incident, its words, its likely causes and its runbook."""
