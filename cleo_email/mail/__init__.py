"""Pure functions on bytes and frozen values. No I/O, no Redis, no clock."""
