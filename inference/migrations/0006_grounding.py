"""Answers that stand on documents, the passages they were given, and the languages that a model knows."""

import django.db.models.deletion
from django.db import migrations, models

PACKAGED_MODEL = "smollm2-135m-instruct"


def name_languages(apps, schema_editor):
    """Let the row of the packaged model say that it knows English alone."""
    rows = apps.get_model("inference", "ChatModelConfig").objects.using(schema_editor.connection.alias)
    rows.filter(provider="local", provider_model=PACKAGED_MODEL).update(languages=["en"])


class Migration(migrations.Migration):
    dependencies = [
        ("inference", "0005_row_ids"),
    ]

    operations = [
        migrations.CreateModel(
            name="AnswerSource",
            fields=[
                (
                    "id",
                    models.BigAutoField(
                        auto_created=True, primary_key=True, serialize=False, verbose_name="ID"
                    ),
                ),
                ("number", models.PositiveSmallIntegerField()),
                ("document", models.UUIDField()),
                ("version", models.UUIDField()),
                ("collection", models.UUIDField()),
                ("title", models.CharField(blank=True, max_length=255)),
                ("page", models.PositiveIntegerField(null=True)),
                ("start", models.PositiveIntegerField()),
                ("end", models.PositiveIntegerField()),
                ("text", models.TextField(blank=True)),
                ("score", models.FloatField()),
            ],
            options={
                "ordering": ("number",),
            },
        ),
        migrations.AddField(
            model_name="chatmodelconfig",
            name="languages",
            field=models.JSONField(
                blank=True,
                default=list,
                help_text=(
                    'A list of codes, such as ["en"]; empty for any. A question about documents in another '
                    "language is answered with sentences of theirs."
                ),
                verbose_name="languages",
            ),
        ),
        migrations.AddField(
            model_name="generation",
            name="collection",
            field=models.UUIDField(
                blank=True,
                help_text="Whose documents were asked, if not all.",
                null=True,
                verbose_name="collection",
            ),
        ),
        migrations.AddField(
            model_name="generation",
            name="confidence",
            field=models.FloatField(blank=True, null=True, verbose_name="confidence"),
        ),
        migrations.AddField(
            model_name="generation",
            name="grounding",
            field=models.CharField(
                blank=True,
                choices=[
                    ("passages", "passages"),
                    ("extract", "sentences of passages"),
                    ("nothing", "nothing was found"),
                ],
                help_text="How documents made the answer, where they were asked.",
                max_length=10,
                verbose_name="stands on",
            ),
        ),
        migrations.AddField(
            model_name="generation",
            name="labels",
            field=models.JSONField(
                blank=True,
                default=dict,
                help_text="What a program said about its question.",
                verbose_name="labels",
            ),
        ),
        migrations.AddConstraint(
            model_name="generation",
            constraint=models.CheckConstraint(
                condition=models.Q(
                    ("grounding__in", ["", "passages", "extract", "nothing"]),
                    models.Q(("grounding", ""), ("confidence__isnull", False), _connector="XOR"),
                ),
                name="inference_generation_grounding",
            ),
        ),
        migrations.AddField(
            model_name="answersource",
            name="generation",
            field=models.ForeignKey(
                on_delete=django.db.models.deletion.CASCADE, related_name="sources", to="inference.generation"
            ),
        ),
        migrations.AddIndex(
            model_name="answersource",
            index=models.Index(fields=["document"], name="inference_source_document"),
        ),
        migrations.AddConstraint(
            model_name="answersource",
            constraint=models.UniqueConstraint(
                fields=("generation", "number"), name="inference_source_number"
            ),
        ),
        migrations.RunPython(name_languages, migrations.RunPython.noop),
    ]
