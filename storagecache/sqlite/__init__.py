"""Django's SQLite backend with a bounded pool of connections and a lock for writers (see `base`, `lock`)."""
