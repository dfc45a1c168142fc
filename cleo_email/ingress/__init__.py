"""Ways in by HTTP, a file each: verify, extract, and hand an ``Arrival`` to the intake."""
