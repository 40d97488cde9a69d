"""What `python -m mmkit` can do: look the installation over, build the data sets ahead."""
