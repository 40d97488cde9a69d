"""What brings and finds things: the settings of a run, the pinned sources, quiet imports."""
