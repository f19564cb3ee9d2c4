"""State: the one database of a project, and its timeline."""
