"""GET /api/models: what can be asked for."""

from django.http import HttpRequest, JsonResponse
from ninja import Router

from genqueue import choices
from genqueue.api.schemas import ModelsJson

router = Router(tags=["Models"])


@router.get("/models", response=ModelsJson, summary="The models")
def get_models(request: HttpRequest) -> JsonResponse:
    """Sizes, limits, defaults, example prompts and, where it is known, what each can draw."""
    return JsonResponse({"models": choices.models_as_json()}, headers={"Cache-Control": "no-cache"})
