"""What may hold a request back. So far: limits on requests, counted in memory or in Redis."""
