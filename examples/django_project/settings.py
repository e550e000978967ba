"""Settings of the project. ``TURNPIKE`` is at the end; before it is what ``startproject`` writes, for one folder."""

import os
from pathlib import Path

BASE_DIR = Path(__file__).resolve().parent

SECRET_KEY = os.environ.get("DJANGO_SECRET_KEY", "only good enough for an example")
DEBUG = "DJANGO_DEBUG" in os.environ
ALLOWED_HOSTS = ["localhost", "127.0.0.1", "[::1]"]

INSTALLED_APPS = [
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "django.contrib.staticfiles",
    "turnpike_django",
    "turnpike_django.keys",
]
MIDDLEWARE = [
    "django.middleware.security.SecurityMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
    "turnpike_django.middleware.TurnpikeMiddleware",
]
ROOT_URLCONF = "django_project.urls"
WSGI_APPLICATION = "django_project.wsgi.application"
TEMPLATES = [
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
]
DATABASES = {
    "default": {
        "ENGINE": "django.db.backends.sqlite3",
        "NAME": os.environ.get("DJANGO_DATABASE", BASE_DIR / "db.sqlite3"),
    }
}
STATIC_URL = "static/"
USE_TZ = True

# Models and rules; the environment adds the callers' keys and may replace any of it.
TURNPIKE = {
    "providers": {"openai": {}, "anthropic": {}},
    "default_provider": "openai",
    "tiers": {
        "cheap": "gpt-4o-mini",
        "expensive": "gpt-4o",
        "writer": {"provider": "anthropic", "model": "claude-sonnet-4-5"},
    },
    "default_policy": {"max_output_tokens": 500, "retry_attempts": 2},
    "exempt": ["/admin/*"],  # it asks for a login of its own
}
