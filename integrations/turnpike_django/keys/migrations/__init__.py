"""Migrations of the app ``turnpike_keys``."""
