"""From an adapter to the answers that it gave, without reading all answers."""

from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("inference", "0009_evictions")]
    operations = [
        migrations.AddIndex(
            model_name="generation",
            index=models.Index(
                condition=models.Q(("adapter", ""), _negated=True),
                fields=["adapter"],
                name="inference_gen_by_adapter",
            ),
        ),
    ]
