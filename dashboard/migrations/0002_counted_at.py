from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("dashboard", "0001_sums"),
    ]

    operations = [
        migrations.AddField(
            model_name="progress",
            name="counted_at",
            field=models.DateTimeField(null=True),
        ),
    ]
