"""The picture of an incident: the signal behind its page, as a PNG.

`reading` takes what is on the bus, `signal_plot` draws how an agent behaved, `session_plot` what a session
did, and `pictures` chooses between them.
"""
