"""Finish what was left and collect what nobody needs: the only code that deletes bytes.

Collectable are expired assets, the oldest temp assets beyond their bounds, trash past TRASH_TTL, uploads that never
ended, objects being deleted, and objects without a reference for longer than the grace time. It works in batches by
keyset, in constant memory; killed in the middle it goes on at the next call, and two at once share the work. It never
lists a bucket.

The order of things is in `flow`: `marking` and `crowding` decide by the queries of `collectable`, `deleting` carries
out, `staged_files` and `abandoned_uploads` sweep what no row tells of.
"""

from assets.services.purging.abandoned_uploads import abort_abandoned
from assets.services.purging.flow import purge
from assets.services.purging.limits import BATCH
from assets.services.purging.report import PurgeReport
from assets.services.purging.staged_files import sweep_staging

__all__ = ["BATCH", "PurgeReport", "abort_abandoned", "purge", "sweep_staging"]
