"""What operators do in the admin and at the terminal comes into the audit log."""

from django.db import migrations, models

KINDS = [
    ("registered", "registered"),
    ("signed_in", "signed in"),
    ("sign_in_failed", "sign-in failed"),
    ("signed_out", "signed out"),
    ("session_ended", "sign-in ended"),
    ("token_replayed", "refresh token used twice"),
    ("password_changed", "password changed"),
    ("password_reset", "password reset by e-mail"),
    ("key_created", "key created"),
    ("key_revoked", "key revoked"),
    ("role_granted", "role granted"),
    ("role_removed", "role removed"),
    ("rights_changed", "rights changed"),
    ("email_changed", "e-mail address changed"),
    ("limits_changed", "limits changed"),
    ("enabled", "account enabled"),
    ("disabled", "account disabled"),
    ("chat_read", "chat read by staff"),
    ("data_downloaded", "data downloaded"),
    ("erased", "account erased"),
    ("model_changed", "model changed"),
    ("model_switched", "default model switched"),
    ("cache_cleared", "cache cleared"),
    ("document_deleted", "document deleted"),
    ("collection_deleted", "collection deleted"),
    ("collection_shared", "readers of a collection changed"),
    ("consent_changed", "consent to training changed"),
    ("feedback_accepted", "feedback accepted"),
    ("feedback_rejected", "feedback rejected"),
    ("feedback_revoked", "accepted feedback revoked"),
    ("feedback_exported", "feedback exported"),
    ("dataset_made", "data set made"),
    ("dataset_deleted", "data set deleted"),
    ("dataset_withdrawn", "data set withdrawn"),
    ("run_started", "training run started"),
    ("run_cancelled", "training run cancelled"),
    ("adapter_promoted", "adapter promoted"),
    ("adapter_rolled_back", "model rolled back"),
    ("adapter_withdrawn", "adapter withdrawn"),
    ("private_opened", "private text opened"),
    ("task_retried", "task put back to work"),
    ("task_cancelled", "task called off"),
    ("document_reread", "document read again"),
    ("collection_reindexed", "collection indexed anew"),
    ("data_pruned", "old data removed"),
    ("site_restored", "site restored from a backup"),
    ("site_backed_up", "site backed up"),
]


def forbid_changes(apps, schema_editor):
    # SQLite changes a constraint by writing the table anew, without the trigger of 0003_written_once.
    if schema_editor.connection.vendor == "sqlite":
        schema_editor.execute(
            "CREATE TRIGGER accounts_auditevent_written_once BEFORE UPDATE ON accounts_auditevent "
            "BEGIN SELECT RAISE(ABORT, 'rows of accounts_auditevent are written once'); END"
        )


class Migration(migrations.Migration):
    dependencies = [("accounts", "0007_audit_of_training")]
    operations = [
        # The last step on the way back, as the other one is on the way here.
        migrations.RunPython(migrations.RunPython.noop, forbid_changes),
        migrations.RemoveConstraint(model_name="auditevent", name="accounts_audit_kind"),
        migrations.AlterField(
            model_name="auditevent",
            name="kind",
            field=models.CharField(choices=KINDS, max_length=20, verbose_name="what"),
        ),
        migrations.AddConstraint(
            model_name="auditevent",
            constraint=models.CheckConstraint(
                condition=models.Q(("kind__in", [kind for kind, _ in KINDS])), name="accounts_audit_kind"
            ),
        ),
        migrations.RunPython(forbid_changes, migrations.RunPython.noop),
    ]
