"""What a plain request to /relay/ is answered; WebSockets go to rooms.relay.consumer."""

from django.http import HttpRequest, HttpResponse, JsonResponse
from django.views.decorators.http import require_http_methods

from rooms.relay.consumer import LIMITS
from rooms.relay.information import CONTENT_TYPE, CORS, FOR_PEOPLE, document, wants_document


@require_http_methods(["GET", "HEAD", "OPTIONS"])
def information(request: HttpRequest) -> HttpResponse:
    answer: HttpResponse
    if request.method == "OPTIONS":
        answer = HttpResponse(status=204)
    elif wants_document(request.headers.get("Accept", "")):
        answer = JsonResponse(document(LIMITS), content_type=CONTENT_TYPE)
    else:
        answer = HttpResponse(FOR_PEOPLE, content_type="text/plain")
    for name, value in CORS.items():
        answer[name] = value
    return answer
