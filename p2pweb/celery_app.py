"""The Celery app. It carries "there is work" and nothing else: results live in the database."""

import os

from celery import Celery

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "p2pweb.settings")
# Each worker would check the whole project at its start, and import every view for that.
os.environ.setdefault("CELERY_SKIP_CHECKS", "1")

app = Celery("p2pweb")
app.config_from_object("django.conf:settings", namespace="CELERY")
app.set_default()
app.autodiscover_tasks(["genqueue"])
