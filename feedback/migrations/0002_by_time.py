"""Lists of feedback without a filter, and those of one person, are read from an index."""

from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("feedback", "0001_initial")]
    operations = [
        migrations.RemoveIndex(model_name="feedback", name="feedback_by_user"),
        migrations.AddIndex(
            model_name="feedback",
            index=models.Index(fields=["user", "-created_at", "id"], name="feedback_by_user"),
        ),
        migrations.AddIndex(
            model_name="feedback",
            index=models.Index(fields=["-created_at", "id"], name="feedback_by_time"),
        ),
    ]
