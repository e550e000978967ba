"""What may hold a call back: quotas, breakers, caches, redaction. It knows no prices."""
