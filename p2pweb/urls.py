"""URLs of the whole site: the admin, the API, the pages.

The API offers `genqueue.api.urls`, the pages `rooms.urls`; both are plain `urlpatterns`.
"""

from importlib.util import find_spec

from django.contrib import admin
from django.urls import URLPattern, URLResolver, include, path

urlpatterns: list[URLPattern | URLResolver] = [path("admin/", admin.site.urls)]
if find_spec("genqueue.api") and find_spec("genqueue.api.urls"):
    urlpatterns.append(path("api/", include("genqueue.api.urls")))
if find_spec("rooms.urls"):
    urlpatterns.append(path("", include("rooms.urls")))
