"""Everything under /api/, and the OpenAPI document that describes it."""

from django.conf import settings
from django.http import Http404, HttpRequest, HttpResponse
from django.urls import URLPattern, URLResolver, path, re_path
from django.views.decorators.csrf import csrf_exempt

from genqueue.api import errors, health, jobs, join, models, packages, pictures, rooms, stats
from genqueue.api.bodies import JsonParser
from genqueue.api.documentation import DocumentedAPI

DESCRIPTION = """
Make pictures in shared rooms. Add a job to a room's queue, follow it, fetch its pictures.

Bodies are JSON objects sent as `application/json`, with strict types. Every answer of 400 or above
is `application/problem+json` (RFC 9457) with a stable `code`. HEAD works wherever GET does.

There are no accounts. The first answer to a call that makes something sets a cookie; whoever sends
it is the same client. The answer that makes a job also carries a token that cancels it.
"""

api = DocumentedAPI(
    title="P2P diffusion",
    version=settings.VERSION,
    description=DESCRIPTION,
    parser=JsonParser(),
    urls_namespace="api",
    openapi_url="/openapi.json",
    docs_url="/docs",
)
errors.register(api)
for part in (rooms, join, jobs, pictures, models, packages, stats, health):
    api.add_router("", part.router)


@csrf_exempt
def nothing_here(request: HttpRequest, rest: str) -> HttpResponse:
    raise Http404


urlpatterns: list[URLPattern | URLResolver] = [
    path("", api.urls),
    re_path(r"^(?P<rest>(?s:.*))$", nothing_here),
]
