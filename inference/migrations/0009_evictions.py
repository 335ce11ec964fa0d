"""Single answers leave the cache: each knows its key, and a table tells every process which have gone."""

import django.utils.timezone
from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("inference", "0008_engine_processes")]
    operations = [
        migrations.CreateModel(
            name="EvictedAnswer",
            fields=[
                (
                    "key",
                    models.CharField(max_length=100, primary_key=True, serialize=False, verbose_name="key"),
                ),
                ("at", models.DateTimeField(default=django.utils.timezone.now, verbose_name="when")),
            ],
            options={"verbose_name": "evicted answer", "verbose_name_plural": "evicted answers"},
        ),
        migrations.AddField(
            model_name="generation",
            name="cache_key",
            field=models.CharField(
                blank=True,
                help_text="Where it is kept, if anywhere.",
                max_length=100,
                verbose_name="key in the cache",
            ),
        ),
    ]
