"""The commands ``turnpike_routes`` and ``turnpike_keys``."""
