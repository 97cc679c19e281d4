"""Celery tasks. A message says "there is work" and nothing else; what to do is in the database."""

from celery import shared_task


@shared_task(name="queue.work", ignore_result=True)
def work() -> None:
    """Claim the next chunk and run it."""
