"""The names of budgets and reservations; no table is changed."""

from django.db import migrations


class Migration(migrations.Migration):
    dependencies = [("accounts", "0010_sign_ins_by_time")]
    operations = [
        migrations.AlterModelOptions(
            name="reservation",
            options={"verbose_name": "reservation", "verbose_name_plural": "reservations"},
        ),
        migrations.AlterModelOptions(
            name="spending",
            options={"verbose_name": "budget", "verbose_name_plural": "budgets"},
        ),
    ]
