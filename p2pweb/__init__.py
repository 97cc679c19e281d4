"""The Django project: settings, URLs, ASGI and Celery. No features."""

from p2pweb.celery_app import app as celery_app

__all__ = ["celery_app"]
