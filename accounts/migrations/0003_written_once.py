"""The database itself refuses to change the ledger and the audit log."""

from django.db import migrations

TABLES = ("accounts_ledgerentry", "accounts_auditevent")


def forbid_changes(apps, schema_editor):
    vendor = schema_editor.connection.vendor
    if vendor == "postgresql":
        schema_editor.execute(
            """
            CREATE FUNCTION accounts_written_once() RETURNS trigger LANGUAGE plpgsql AS
            $$ BEGIN RAISE EXCEPTION 'rows of %% are written once', TG_TABLE_NAME; END $$
            """
        )
    for table in TABLES:
        if vendor == "postgresql":
            schema_editor.execute(
                f"CREATE TRIGGER {table}_written_once BEFORE UPDATE OR DELETE ON {table} "
                "FOR EACH ROW EXECUTE FUNCTION accounts_written_once()"
            )
        elif vendor == "sqlite":
            # Deleting is left open: SQLite has no TRUNCATE, so Django empties tables with DELETE.
            schema_editor.execute(
                f"CREATE TRIGGER {table}_written_once BEFORE UPDATE ON {table} "
                f"BEGIN SELECT RAISE(ABORT, 'rows of {table} are written once'); END"
            )


def allow_changes(apps, schema_editor):
    vendor = schema_editor.connection.vendor
    for table in TABLES:
        place = f" ON {table}" if vendor == "postgresql" else ""
        schema_editor.execute(f"DROP TRIGGER {table}_written_once{place}")
    if vendor == "postgresql":
        schema_editor.execute("DROP FUNCTION accounts_written_once()")


class Migration(migrations.Migration):
    dependencies = [("accounts", "0002_people_keys_ledger_audit")]
    operations = [migrations.RunPython(forbid_changes, allow_changes)]
