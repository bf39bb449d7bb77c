"""What the provider promises: its API, the models, their statuses, what is charged."""
