"""One file that holds a site: its rows, and the files that they name. `manage.py backup` and `restore`."""
