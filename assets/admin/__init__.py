"""The first admin: assets, objects and quotas listed, looked at, set, uploaded and deleted, with Django's own admin.

Everything that changes goes through `assets.services`; every list looks at a bounded run of rows.
"""

from django.contrib import admin

from assets.admin.accounts import AccountAdmin
from assets.admin.assets import AssetAdmin
from assets.admin.integrity import IntegrityFindingAdmin, IntegrityRunAdmin, QuarantinedObjectAdmin
from assets.admin.jobs import JobAdmin
from assets.admin.objects import StoredObjectAdmin
from assets.admin.schedule import ScheduledWorkAdmin

admin.site.site_header = admin.site.site_title = "NodeTool Storage"
admin.site.index_template = "admin/assets/index.html"  # with the way to the library

__all__ = [
    "AccountAdmin",
    "AssetAdmin",
    "IntegrityFindingAdmin",
    "IntegrityRunAdmin",
    "JobAdmin",
    "QuarantinedObjectAdmin",
    "ScheduledWorkAdmin",
    "StoredObjectAdmin",
]
