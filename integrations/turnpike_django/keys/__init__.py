"""API keys in the project's database: model, admin, and the key store over them. Add it to ``INSTALLED_APPS``."""
