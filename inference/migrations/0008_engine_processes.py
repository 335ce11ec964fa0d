import django.db.models.deletion
import django.utils.timezone
from django.db import migrations, models

import llmsite.core.ids


class Migration(migrations.Migration):

    dependencies = [
        ('inference', '0007_adapters_and_verified_answers'),
    ]

    operations = [
        migrations.CreateModel(
            name='EngineProcess',
            fields=[
                ('id', models.UUIDField(default=llmsite.core.ids.row_id, editable=False, primary_key=True, serialize=False)),
                ('base_model', models.CharField(max_length=200, verbose_name='base model')),
                ('seen_at', models.DateTimeField(default=django.utils.timezone.now, verbose_name='last sign of life')),
            ],
            options={
                'verbose_name': 'engine process',
                'verbose_name_plural': 'engine processes',
            },
        ),
        # What a process said before it was told apart from its row is of a process that has ended.
        migrations.RunSQL('DELETE FROM inference_adapterload', migrations.RunSQL.noop),
        migrations.RemoveConstraint(model_name='adapterload', name='inference_adapterload_once'),
        migrations.RemoveField(model_name='adapterload', name='process'),
        migrations.AddField(
            model_name='adapterload',
            name='process',
            field=models.ForeignKey(default=None, on_delete=django.db.models.deletion.CASCADE, related_name='loads', to='inference.engineprocess', verbose_name='process'),
            preserve_default=False,
        ),
        migrations.RemoveField(model_name='adapterload', name='seen_at'),
        migrations.AddField(
            model_name='adapterload',
            name='told_at',
            field=models.DateTimeField(default=django.utils.timezone.now, verbose_name='since'),
        ),
        migrations.AddConstraint(
            model_name='adapterload',
            constraint=models.UniqueConstraint(fields=('process', 'adapter'), name='inference_adapterload_once'),
        ),
    ]
