"""Workflows: the agent starts a conversation, because a program asks for it or because it is time.

``starting`` takes a start in, ``scheduling`` makes the scheduled ones, ``opening`` turns a start into what
the agent is asked and into the mail that opens the thread.
"""
