from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("queue", "0007_check_precision"),
    ]

    operations = [
        migrations.AddField(
            model_name="worker",
            name="own_first",
            field=models.BooleanField(
                default=False,
                help_text="what its own person asked for comes before all else",
            ),
        ),
    ]
