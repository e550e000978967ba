"""One module for each way of calling: ``PACKAGES``, whose versions are reported, and ``build(setting)``."""
