"""The page `/check`: what a browser can do, and the numbers that it is held to."""

from functools import lru_cache
from typing import TypedDict

from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.views.decorators.cache import cache_control, never_cache
from django.views.decorators.http import require_safe

from diffusion.plan.kernel_cases import kernel_file
from genqueue import packages
from genqueue.choices import models

SOFTWARE = "allow-software-gpu"
PREFERRED_VARIANTS = ("f16", "int8", "int4", "f32")


class Checkable(TypedDict):
    name: str
    title: str
    variant: str
    more: str  # of the query: what the page was asked to allow stays allowed


@never_cache
@require_safe
def page(request: HttpRequest) -> HttpResponse:
    allowed = request.GET.get(SOFTWARE) == "1"
    return render(
        request,
        "rooms/check.html",
        {"models": _checkable(f"&{SOFTWARE}=1" if allowed else "")},
    )


@cache_control(public=True, max_age=60)
@require_safe
def kernels(request: HttpRequest) -> HttpResponse:
    """What every kernel should give: `diffusion.plan.kernel_cases.kernel_file`."""
    return HttpResponse(_kernels(), content_type="application/octet-stream")


@lru_cache(maxsize=1)
def _kernels() -> bytes:
    return kernel_file()


def _checkable(more: str) -> list[Checkable]:
    """Models with a package, each in the variant that browsers would take first."""
    variants: dict[str, list[str]] = {}
    for entry in packages.listed():
        variants.setdefault(entry["model"], []).append(entry["variant"])
    return [
        Checkable(
            name=name,
            title=models()[name].title,
            variant=min(found, key=_preference),
            more=more,
        )
        for name, found in variants.items()
    ]


def _preference(variant: str) -> int:
    known = PREFERRED_VARIANTS
    return known.index(variant) if variant in known else len(known)
