"""What `manage.py doctor` tries: the parts of the service, each in a module of its own that registers itself here.

An app adds parts by a module `doctor` of its own. What needs neither network nor writing is a system check instead
(`storagecache.checks`): Django runs those before each command, and the part `configuration` shows them here.
"""

from storagecache.doctor import configuration, folders, database, s3, memcached, addresses  # noqa: F401, I001 (the order)
