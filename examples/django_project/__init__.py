"""A small service in Django: answers from the model that a question needs, conversations within a bound, summaries.

Run it from the repository's root::

    export OPENAI_API_KEY=... ANTHROPIC_API_KEY=...
    export TURNPIKE_API_KEYS='k-acme=acme:web,k-beta=beta:batch'    # or APP_API_KEY for a single caller
    uvicorn --app-dir examples django_project.asgi:application      # or: gunicorn --chdir examples django_project.wsgi
    curl localhost:8000/answer-routed -H 'X-API-Key: k-acme' --json '{"message": "What is a turnpike?"}'

Keys in the database, and spend by tenant, are in the admin::

    export DJANGO_DEBUG=1
    python examples/django_project/manage.py migrate
    python examples/django_project/manage.py createsuperuser
    python examples/django_project/manage.py runserver              # then open localhost:8000/admin/

``OPENAI_BASE_URL`` and ``ANTHROPIC_BASE_URL`` lead it elsewhere. Who spent what is in ``~/.turnpike/telemetry.jsonl``.
``fastapi_app.py``, ``flask_app.py`` and ``litestar_app.py`` are the same service.
"""
