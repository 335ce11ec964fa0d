"""The list of sign-ins in the admin, newest first, by an index."""

from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("accounts", "0009_retention")]
    operations = [
        migrations.AddIndex(
            model_name="session",
            index=models.Index(fields=["-created_at", "id"], name="accounts_session_by_time"),
        ),
    ]
