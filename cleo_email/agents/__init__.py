"""The agents, which write the answers: one file for each kind."""
