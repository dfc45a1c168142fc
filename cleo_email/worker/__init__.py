"""The worker process: it answers mail, polls the mailbox, sweeps, and ends itself when a job hangs."""
