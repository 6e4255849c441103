"""Examples: whole programs on the workflow API."""
