"""The project for ASGI servers: uvicorn, hypercorn, daphne, granian."""

import os

from turnpike.tokens import preload
from turnpike_django.asgi import get_asgi_application

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "django_project.settings")
application = get_asgi_application()
preload("gpt-4o")  # the token vocabulary, if there is one: no request waits for it
