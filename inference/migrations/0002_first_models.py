"""The models a new site begins with: its own small one, and one for each provider that needs a key.

Prices are left at 0, because they change; an operator sets them in the admin.
"""

from django.db import migrations

MODELS = [
    {
        "alias": "smollm2-135m-instruct",
        "label": "SmolLM2 135M (local)",
        "provider": "local",
        "provider_model": "smollm2-135m-instruct",
        "context_window": 2048,
        "max_tokens": 512,
        # Of the wordings that were tried, the one this small model answers most questions rightly with.
        "system_prompt": "You are a helpful assistant. Answer clearly and briefly.",
        "is_default": True,
    },
    {
        "alias": "claude-sonnet",
        "label": "Claude Sonnet",
        "provider": "anthropic",
        "provider_model": "claude-sonnet-5-5",
        "context_window": 200_000,
        "max_tokens": 4096,
    },
    {
        "alias": "gpt",
        "label": "GPT",
        "provider": "openai",
        "provider_model": "gpt-5.5",
        # A model that reasons refuses both.
        "refused_parameters": ["temperature", "top_p"],
        "context_window": 128_000,
        "max_tokens": 4096,
    },
]


def add_models(apps, schema_editor):
    rows = apps.get_model("inference", "ChatModelConfig").objects.using(schema_editor.connection.alias)
    for values in MODELS:
        rows.get_or_create(alias=values["alias"], defaults=values)


class Migration(migrations.Migration):
    dependencies = [("inference", "0001_initial")]
    # Going back leaves the rows: 0001 drops their table anyway.
    operations = [migrations.RunPython(add_models, migrations.RunPython.noop)]
