"""What is kept for how long: the settings RETENTION_…, a preview, and a task that removes the rest."""
