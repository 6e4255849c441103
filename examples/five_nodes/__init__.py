"""A workflow of five nodes, each a job of its own."""
