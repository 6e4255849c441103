"""The catalog against the buckets: the only code that lists buckets lives here."""
