"""When a task is polled, and one poller for all who wait for it."""
