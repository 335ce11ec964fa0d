"""Ids of new rows begin with their time; those that are there stay as they are."""

from django.db import migrations, models

import llmsite.core.ids


def _id_of(model: str) -> migrations.AlterField:
    field = models.UUIDField(
        default=llmsite.core.ids.row_id, editable=False, primary_key=True, serialize=False
    )
    return migrations.AlterField(model, "id", field)


class Migration(migrations.Migration):
    dependencies = [("inference", "0004_gateway")]

    operations = [
        # The column does not change, and SQLite would write every table that names it anew.
        migrations.SeparateDatabaseAndState(
            state_operations=[_id_of("conversation"), _id_of("generation"), _id_of("message")]
        )
    ]
