"""What people and programs are told of the channel: metrics, alerts, events."""
