"""The agents: whoever writes the answers, one file for each kind."""
