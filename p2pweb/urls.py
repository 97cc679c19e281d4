"""URLs of the whole site: the admin, the API, the pages."""

from django.contrib import admin
from django.urls import URLPattern, URLResolver, include, path

urlpatterns: list[URLPattern | URLResolver] = [
    path("admin/", admin.site.urls),
    path("api/", include("genqueue.api.urls")),
    path("", include("rooms.urls")),
]
