"""Migrations of the app ``turnpike_django``."""
