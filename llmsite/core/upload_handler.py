"""Takes the files of a form from people who are signed in: onto the media volume as they come, up to a limit.

It is in FILE_UPLOAD_HANDLERS, so no form of the site takes files in another way. What the client says of the
length is not trusted: bytes are counted as they come.
"""

from typing import Any

from django.conf import settings
from django.core.exceptions import TooManyFieldsSent, TooManyFilesSent
from django.core.files.uploadhandler import TemporaryFileUploadHandler
from django.http import HttpRequest, UnreadablePostError
from django.http.multipartparser import MultiPartParserError
from django.utils.translation import gettext as _

from llmsite.core.disk import telling_when_full
from llmsite.core.errors import InvalidInput, NotSignedIn, TooLarge

MEGABYTE = 1_000_000
FORM_BYTES = 1_000_000
"""What a form may have beside its files."""


def read_form(request: HttpRequest) -> None:
    """Read the form, if it was not read yet, for `POST` and `FILES`; where that fails, no file is left.

    Raises NotSignedIn, TooLarge, DiskFull, and InvalidInput for what is no form.
    """
    try:
        request.FILES  # noqa: B018 – Django reads it when it is asked for.
        _check_whole(request)
    except (TooManyFieldsSent, TooManyFilesSent) as error:
        _throw_away(request)
        raise TooLarge(limit=settings.DATA_UPLOAD_MAX_NUMBER_FIELDS, unit=_("fields")) from error
    except (MultiPartParserError, UnreadablePostError) as error:
        _throw_away(request)
        raise _cut_short() from error
    except BaseException:
        _throw_away(request)
        raise


def _check_whole(request: HttpRequest) -> None:
    """Django takes a form that ends in the middle of a file for one without that file."""
    if any(getattr(handler, "was_interrupted", False) for handler in request.upload_handlers):
        raise _cut_short()


def _throw_away(request: HttpRequest) -> None:
    """The files that were being written: Django itself leaves them to the garbage collector."""
    for handler in request.upload_handlers:
        handler.upload_interrupted()


class UploadHandler(TemporaryFileUploadHandler):
    """Raises NotSignedIn, TooLarge and DiskFull."""

    was_interrupted = False
    """Whether the form ended before the file did."""
    _received = 0

    def handle_raw_input(
        self,
        input_data: Any,
        META: Any,  # noqa: N803 – Django's name
        content_length: int,
        boundary: str,
        encoding: str | None = None,
    ) -> None:
        if content_length > _limit() + FORM_BYTES:
            raise _too_large()

    def new_file(self, *args: Any, **kwargs: Any) -> None:
        if not (self.request and self.request.user.is_authenticated):
            raise NotSignedIn
        with telling_when_full():
            settings.FILE_UPLOAD_TEMP_DIR.mkdir(mode=0o700, parents=True, exist_ok=True)
            super().new_file(*args, **kwargs)

    def receive_data_chunk(self, raw_data: bytes, start: int) -> None:
        self._received += len(raw_data)
        if self._received > _limit():
            raise _too_large()
        with telling_when_full():
            self.file.write(raw_data)

    def upload_interrupted(self) -> None:
        self.was_interrupted = True
        super().upload_interrupted()

    def file_complete(self, file_size: int) -> Any:
        with telling_when_full():
            # What waits in the buffer may be what does not fit.
            self.file.flush()
        return super().file_complete(file_size)


def _limit() -> int:
    """Bytes of all files of one form."""
    return int(settings.MAX_UPLOAD_MB * MEGABYTE)


def _cut_short() -> InvalidInput:
    return InvalidInput(reason=_("The form could not be read to its end."))


def _too_large() -> TooLarge:
    return TooLarge(field="file", limit=settings.MAX_UPLOAD_MB, unit="MB")
