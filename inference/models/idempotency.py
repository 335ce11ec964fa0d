"""What makes a repeated request the same request."""

from django.db import models
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from accounts.models import User
from inference.models.generations import Generation


class IdempotencyKey(models.Model):
    """The key that a program sent with a question, and the answer that belongs to it.

    Both digests are SHA-256 in hexadecimal: of the key, and of the request's body.
    """

    user = models.ForeignKey(User, on_delete=models.CASCADE, related_name="+")
    key_digest = models.CharField(max_length=64)
    body_digest = models.CharField(max_length=64)
    generation = models.ForeignKey(Generation, on_delete=models.CASCADE, related_name="+")
    created_at = models.DateTimeField(default=timezone.now)

    class Meta:
        verbose_name = _("idempotency key")
        verbose_name_plural = _("idempotency keys")
        constraints = [
            models.UniqueConstraint(fields=["user", "key_digest"], name="inference_idempotency_key"),
        ]
        indexes = [models.Index(fields=["created_at"], name="inference_idempotency_age")]

    def __str__(self) -> str:
        return f"{self.key_digest[:12]}… of {self.user_id}"
