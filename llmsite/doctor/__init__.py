"""What `manage.py doctor` looks at: one module for what lies on this machine, one for what runs."""
