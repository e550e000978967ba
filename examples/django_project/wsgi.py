"""The project for WSGI servers: gunicorn, waitress, and Django's own runserver."""

import os

from django.core.wsgi import get_wsgi_application

from turnpike.tokens import preload

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "django_project.settings")
application = get_wsgi_application()
preload("gpt-4o")  # the token vocabulary, if there is one: no request waits for it
