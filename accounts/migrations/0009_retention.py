"""What is past its time may be deleted from the ledger and the audit log, by who says that it is for that.

Nothing is ever changed, as before; and on SQLite, whose triggers let rows be deleted, nothing has to be done.
"""

from django.db import migrations

FORBID_ALL = """
CREATE OR REPLACE FUNCTION accounts_written_once() RETURNS trigger LANGUAGE plpgsql AS
$$ BEGIN RAISE EXCEPTION 'rows of %% are written once', TG_TABLE_NAME; END $$
"""
ALLOW_RETENTION = """
CREATE OR REPLACE FUNCTION accounts_written_once() RETURNS trigger LANGUAGE plpgsql AS
$$ BEGIN
  IF TG_OP = 'DELETE' AND current_setting('llmsite.retention', true) = 'on' THEN RETURN OLD; END IF;
  RAISE EXCEPTION 'rows of %% are written once', TG_TABLE_NAME;
END $$
"""


def allow(apps, schema_editor):
    if schema_editor.connection.vendor == "postgresql":
        schema_editor.execute(ALLOW_RETENTION)


def forbid(apps, schema_editor):
    if schema_editor.connection.vendor == "postgresql":
        schema_editor.execute(FORBID_ALL)


class Migration(migrations.Migration):
    dependencies = [("accounts", "0008_audit_of_operation")]
    operations = [migrations.RunPython(allow, forbid)]
