from django.apps import AppConfig


class GenqueueConfig(AppConfig):
    name = "genqueue"
    label = "queue"  # tables queue_*, the admin's section, the URLs
    verbose_name = "Queue"
