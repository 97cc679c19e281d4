import django.utils.timezone
from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("queue", "0001_initial"),
    ]

    operations = [
        migrations.AlterModelOptions(
            name="image",
            options={"ordering": ["job_id", "index"]},
        ),
        migrations.RemoveIndex(
            model_name="chunk",
            name="queue_chunk_finished",
        ),
        migrations.RemoveIndex(
            model_name="image",
            name="queue_image_state",
        ),
        migrations.RemoveIndex(
            model_name="image",
            name="queue_image_finished",
        ),
        migrations.RemoveIndex(
            model_name="job",
            name="queue_job_state",
        ),
        migrations.AddField(
            model_name="room",
            name="visited_at",
            field=models.DateTimeField(
                db_index=True,
                default=django.utils.timezone.now,
                help_text="to the hour; see genqueue.retention",
            ),
        ),
        migrations.AddField(
            model_name="speed",
            name="measured_at",
            field=models.DateTimeField(auto_now=True, db_index=True),
        ),
        migrations.AddField(
            model_name="worker",
            name="model_names",
            field=models.JSONField(
                blank=True,
                default=list,
                help_text="the models it can open; it leases no chunk of others",
            ),
        ),
        migrations.AddIndex(
            model_name="chunk",
            index=models.Index(fields=["state", "finished_at"], name="queue_chunk_finished"),
        ),
        migrations.AddIndex(
            model_name="image",
            index=models.Index(fields=["state", "job"], name="queue_image_state"),
        ),
        migrations.AddIndex(
            model_name="image",
            index=models.Index(fields=["state", "finished_at"], name="queue_image_finished"),
        ),
        migrations.AddIndex(
            model_name="job",
            index=models.Index(
                fields=["room", "finished_at", "created_at"], name="queue_job_room_end"
            ),
        ),
        migrations.AddIndex(
            model_name="job",
            index=models.Index(fields=["state", "finished_at"], name="queue_job_state"),
        ),
    ]
