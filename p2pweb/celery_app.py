"""The Celery app. It carries "there is work" and nothing else: results live in the database."""

import os

from celery import Celery

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "p2pweb.settings")

app = Celery("p2pweb")
app.config_from_object("django.conf:settings", namespace="CELERY")
app.set_default()
app.autodiscover_tasks(["genqueue"])
