"""The one Django configuration of a test process: Django can be configured once, and other tests share the process.

Whoever tests something of Django calls ``configure()`` first, and overrides what it needs with ``override_settings``.
"""

from __future__ import annotations

import atexit
import shutil
import tempfile
from pathlib import Path

import django
from django.conf import settings
from django.http import HttpRequest, HttpResponse
from django.urls import path

FOLDER = Path(tempfile.mkdtemp(prefix="turnpike-django-"))
atexit.register(shutil.rmtree, FOLDER, ignore_errors=True)


def configure() -> None:
    """Set Django up, with a database in a file of this process's own that has no tables yet."""
    if settings.configured:
        return
    settings.configure(
        ALLOWED_HOSTS=["*"],
        DATABASES={"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": FOLDER / "db.sqlite3"}},
        INSTALLED_APPS=[
            "django.contrib.admin",
            "django.contrib.auth",
            "django.contrib.contenttypes",
            "django.contrib.messages",
            "django.contrib.sessions",
            "turnpike_django",
            "turnpike_django.keys",
        ],
        LOGGING_CONFIG=None,
        MIDDLEWARE=["turnpike_django.middleware.TurnpikeMiddleware"],
        PASSWORD_HASHERS=["django.contrib.auth.hashers.MD5PasswordHasher"],
        ROOT_URLCONF=__name__,
        SECRET_KEY="secret of the tests",
        SILENCED_SYSTEM_CHECKS=[],
        STATIC_URL="/static/",
        TEMPLATES=[
            {
                "BACKEND": "django.template.backends.django.DjangoTemplates",
                "APP_DIRS": True,
                "OPTIONS": {
                    "context_processors": [
                        "django.template.context_processors.request",
                        "django.contrib.auth.context_processors.auth",
                        "django.contrib.messages.context_processors.messages",
                    ]
                },
            }
        ],
        TURNPIKE={},
        USE_TZ=True,
    )
    django.setup()


def nothing(_request: HttpRequest) -> HttpResponse:
    """Answer with nothing."""
    return HttpResponse()


urlpatterns = [path("", nothing)]
