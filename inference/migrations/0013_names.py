"""The name of the sources of answers; no table is changed."""

from django.db import migrations


class Migration(migrations.Migration):
    dependencies = [("inference", "0012_answers_by_request")]
    operations = [
        migrations.AlterModelOptions(
            name="answersource",
            options={
                "ordering": ("number",),
                "verbose_name": "source of an answer",
                "verbose_name_plural": "sources of answers",
            },
        ),
    ]
