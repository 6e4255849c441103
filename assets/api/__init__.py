"""The JSON API and the one place where errors become answers."""
