from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [("training", "0002_evaluation_answers")]

    operations = [
        migrations.AddField(
            model_name="trainingrun",
            name="request_id",
            field=models.CharField(blank=True, default="", editable=False, max_length=128, verbose_name="request id"),
            preserve_default=False,
        ),
    ]
