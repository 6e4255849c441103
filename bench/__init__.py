"""Side-by-side benchmarks of the running service and nginx: HTTP only, nothing of the service is imported here."""
