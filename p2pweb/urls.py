"""URLs of the whole site: the admin, the API, the pages."""

from django.conf import settings
from django.contrib import admin
from django.urls import URLPattern, URLResolver, include, path
from django.views.generic import RedirectView

urlpatterns: list[URLPattern | URLResolver] = [
    path("admin/", admin.site.urls),
    path("api/", include("genqueue.api.urls")),
    # Where browsers look for the icon of pages that name none: the admin's, a picture by itself.
    path("favicon.ico", RedirectView.as_view(url=f"{settings.STATIC_URL}icon.svg")),
    path("", include("rooms.urls")),
]
