"""GET /api/packages and what lies below it: models packed for browsers, as manifests and shards."""

from hashlib import sha256
from http import HTTPStatus
from typing import Any, Final

from django.http import HttpRequest, HttpResponse, JsonResponse
from ninja import Router

from genqueue import packages, references
from genqueue.api.documentation import binary, problems
from genqueue.api.pictures import FOR_EVER
from genqueue.api.schemas import ModelName, PackagesJson, ShardHash, Variant
from genqueue.ranges import file_response

router = Router(tags=["Models"])

A_MINUTE: Final = "public, max-age=60"


def _ranged(content_type: str) -> dict[str, Any]:
    described = binary(content_type, problems("no-such-package", "range-not-satisfiable"))
    content = described["responses"][HTTPStatus.OK]["content"]
    described["responses"][206] = {"description": "Partial Content", "content": content}
    return described


@router.get("/packages", response=PackagesJson, summary="The models as packages for browsers")
def get_packages(request: HttpRequest) -> JsonResponse:
    """A package is made ahead by an admin, or, of a small model, when somebody first asks."""
    return JsonResponse({"packages": packages.listed()}, headers={"Cache-Control": "no-cache"})


@router.get(
    "/packages/v1/{model}/references.safetensors",
    summary="What each segment of a model should give",
    openapi_extra=_ranged("application/octet-stream"),
)
def get_references(request: HttpRequest, model: ModelName) -> HttpResponse:
    """A small run, segment by segment, for comparing devices: docs/packages.md."""
    path = references.file_of(model)
    etag = f'"{sha256(path.read_bytes()).hexdigest()}"'
    return file_response(
        request, path, etag=etag, content_type="application/octet-stream", caching=A_MINUTE
    )


@router.get(
    "/packages/v1/{model}/{variant}/manifest.json",
    summary="What a package holds, and where",
    openapi_extra=_ranged("application/json"),
)
def get_manifest(request: HttpRequest, model: ModelName, variant: Variant) -> HttpResponse:
    """Its SHA-256 is the package's id, and the ETag. It changes when the model is packed anew."""
    path = packages.manifest_file(model, variant)
    etag = f'"{sha256(path.read_bytes()).hexdigest()}"'
    return file_response(
        request, path, etag=etag, content_type="application/json", caching=A_MINUTE
    )


@router.get(
    "/packages/v1/{model}/{variant}/{sha256}.bin",
    summary="A shard of a package",
    openapi_extra=_ranged("application/octet-stream"),
)
def get_shard(
    request: HttpRequest, model: ModelName, variant: Variant, sha256: ShardHash
) -> HttpResponse:
    """At most 16 MiB, named by its SHA-256: it never changes."""
    path = packages.shard_file(model, variant, sha256)
    return file_response(
        request,
        path,
        etag=f'"{sha256}"',
        content_type="application/octet-stream",
        caching=FOR_EVER,
    )
