"""Static files through WhiteNoise, without the thread that its own middleware costs every request."""

from collections.abc import Awaitable, Callable

from asgiref.sync import markcoroutinefunction, sync_to_async
from django.http import HttpRequest, HttpResponse
from django.http.response import HttpResponseBase
from whitenoise.middleware import WhiteNoiseMiddleware
from whitenoise.responders import StaticFile
from whitenoise.storage import CompressedManifestStaticFilesStorage


class StaticFilesMiddleware(WhiteNoiseMiddleware):
    """One synchronous middleware would make all behind it synchronous too, streams included."""

    sync_capable = False
    async_capable = True

    def __init__(self, get_response: Callable[[HttpRequest], Awaitable[HttpResponseBase]]) -> None:
        super().__init__(get_response)
        markcoroutinefunction(self)

    async def __call__(self, request: HttpRequest) -> HttpResponseBase:
        found = await self._find(request.path_info)
        if found is None:
            return await self.get_response(request)
        return await sync_to_async(_read)(found, request)

    async def _find(self, path: str) -> StaticFile | None:
        if not self.autorefresh:
            return self.files.get(path)
        return await sync_to_async(self.find_file)(path) if path.startswith(self.static_prefix) else None


class ManifestStorage(CompressedManifestStaticFilesStorage):
    """Names with a hash of the content, in the imports between script modules too."""

    support_js_module_import_aggregation = True


def _read(found: StaticFile, request: HttpRequest) -> HttpResponse:
    # Whole and at once: our files are small, and an async server cannot read from a file object.
    answer = found.get_response(request.method, request.META)
    body = b""
    if answer.file is not None:
        with answer.file as file:
            body = file.read()
    return HttpResponse(body, status=int(answer.status), headers=dict(answer.headers))
