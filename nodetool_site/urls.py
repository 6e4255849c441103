"""Every address of the service."""

from django.contrib import admin
from django.urls import path, re_path
from django.views.generic import RedirectView

from assets.access import LoginForm
from assets.api.routes import api
from assets.serving.views import StorageView
from nodetool_site.health import healthz, readyz
from nodetool_site.metrics import metrics

admin.site.login_form = LoginForm

urlpatterns = [
    path("", RedirectView.as_view(pattern_name="admin:index"), name="home"),
    path("healthz", healthz, name="healthz"),
    path("readyz", readyz, name="readyz"),
    path("metrics", metrics, name="metrics"),
    path("admin/", admin.site.urls),
    # The key is read from the bytes of the path, not from these patterns (see StorageView).
    re_path(r"^storage/(?:assets|temp)/", StorageView.as_view(), name="storage"),
    re_path(r"^api/storage/", StorageView.as_view(), name="nodetool-storage"),
    path("api/", api.urls),
]

handler400 = "assets.api.errors.bad_request"
handler403 = "assets.api.errors.permission_denied"
handler404 = "assets.api.errors.not_found"
handler500 = "assets.api.errors.server_error"
