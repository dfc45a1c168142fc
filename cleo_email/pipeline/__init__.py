"""The stages of a message, from its arrival to the answer in the mailbox, one file for each."""
