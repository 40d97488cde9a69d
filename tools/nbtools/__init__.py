"""What `tools/notebooks.py` is made of: finding, running, storing, checking and listing the course's notebooks."""
