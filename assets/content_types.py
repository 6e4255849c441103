"""What kind of bytes an upload holds: what the client claims, held against its first bytes. Pure.

Signatures come from puremagic; this module only knows which names mean the same container.
"""

from __future__ import annotations

import re
from collections import defaultdict
from mimetypes import MimeTypes
from typing import Final

import puremagic

OCTET_STREAM: Final = "application/octet-stream"
HEAD_BYTES: Final = 4096  # what the caller should offer of the beginning

_TYPE: Final = re.compile(r"\A[a-z0-9][a-z0-9!#$&^_.+-]{0,126}/[a-z0-9][a-z0-9!#$&^_.+-]{0,126}\Z")
_BY_NAME: Final = MimeTypes(filenames=(), strict=True)
_MORE_NAMES: Final = {
    ".avif": "image/avif",
    ".heic": "image/heic",
    ".webp": "image/webp",
    ".flac": "audio/flac",
    ".m4a": "audio/mp4",
    ".ogg": "audio/ogg",
    ".opus": "audio/ogg",
    ".wav": "audio/wav",
    ".weba": "audio/webm",
    ".mkv": "video/x-matroska",
    ".webm": "video/webm",
    ".jsonl": "application/jsonl",
    ".md": "text/markdown",
    ".parquet": "application/vnd.apache.parquet",
    ".yaml": "application/yaml",
}
for _extension, _content_type in _MORE_NAMES.items():
    _BY_NAME.add_type(_content_type, _extension)

# Names of one container: each line is a family, and a claim is right when the bytes are of its family.
_FAMILIES: Final = {
    name: family
    for family, names in {
        "isobmff": "video/mp4 audio/mp4 audio/m4a audio/x-m4a video/x-m4v video/quicktime video/3gpp audio/3gpp",
        "matroska": "video/webm audio/webm video/x-matroska audio/x-matroska application/x-matroska",
        "ogg": "application/ogg audio/ogg video/ogg audio/opus audio/vorbis",
        "wav": "audio/wav audio/wave audio/x-wav audio/vnd.wave",
        "mpeg audio": "audio/mpeg audio/mp3 audio/x-mp3 audio/aac audio/aacp audio/x-aac",
        "flac": "audio/flac audio/x-flac",
        "avi": "video/avi video/x-msvideo video/msvideo",
        "mpeg": "video/mpeg video/dvd",
        "aiff": "audio/aiff audio/x-aiff",
        "jpeg": "image/jpeg image/jpg image/pjpeg",
        "png": "image/png image/apng image/vnd.mozilla.apng",
        "gif": "image/gif",
        "webp": "image/webp",
        "heif": "image/heic image/heif image/heic-sequence image/heif-sequence image/avif image/avif-sequence",
        "bmp": "image/bmp image/x-ms-bmp image/x-bmp",
        "ico": "image/x-icon image/vnd.microsoft.icon",
        "tiff": "image/tiff",
        "svg": "image/svg+xml",
        "pdf": "application/pdf application/x-pdf",
    }.items()
    for name in names.split()
}
_BRANDS: Final = {  # by the first letters: ISO 23008-12 10, AVIF 6, and Apple's
    b"avi": "image/avif", b"hei": "image/heic", b"hev": "image/heic", b"mif1": "image/heif", b"msf1": "image/heif",
    b"M4A": "audio/mp4", b"qt": "video/quicktime",
}  # fmt: skip
_RIFF_FORMS: Final = {b"WAVE": "audio/wav", b"AVI ": "video/avi", b"WEBP": "image/webp"}
_EXTENSIONS: Final = {
    "image/png": "png", "image/jpeg": "jpg", "image/gif": "gif", "image/webp": "webp", "image/avif": "avif",
    "image/svg+xml": "svg", "image/bmp": "bmp", "image/tiff": "tiff", "image/heic": "heic", "audio/mpeg": "mp3",
    "audio/wav": "wav", "audio/x-wav": "wav", "audio/flac": "flac", "audio/ogg": "ogg", "audio/mp4": "m4a",
    "audio/aac": "aac", "video/mp4": "mp4", "video/webm": "webm", "video/quicktime": "mov",
    "video/x-matroska": "mkv", "application/pdf": "pdf", "application/json": "json", "application/zip": "zip",
    "text/plain": "txt", "text/csv": "csv", "text/html": "html", "text/markdown": "md",
}  # fmt: skip


def object_extension(content_type: str) -> str:
    """Give the extension of an object key, out of a closed table; empty for anything else."""
    return _EXTENSIONS.get(content_type.partition(";")[0], "")


def guess_content_type(name: str) -> str:
    """Give the type that a file name suggests; `application/octet-stream` when it suggests none."""
    content_type, encoding = _BY_NAME.guess_type(f"x/{name.rpartition('/')[2]}")
    return content_type if content_type and not encoding else OCTET_STREAM


def clean_content_type(claimed: str) -> str:
    """Give the bare lower-case type of a Content-Type header; empty when it is absent or no type at all.

    Parameters are dropped but for the charset of text, which is kept when it is a plain word.
    """
    bare, _, rest = claimed.strip().lower().partition(";")
    bare = bare.strip()
    if not _TYPE.match(bare) or len(bare) > 200:
        return ""
    charset = re.search(r"(?:^|;)\s*charset=\"?([a-z0-9_-]{1,40})\"?\s*(?:;|$)", rest)
    return f"{bare}; charset={charset[1]}" if charset and bare.startswith("text/") else bare


def resolve_content_type(claimed: str, name: str, head: bytes) -> str:
    """Decide the type that the catalog records, from the claim, the name and the first bytes.

    Bytes that contradict a claimed image, audio, video or PDF type are `application/octet-stream`; without
    a claim the bytes decide about media and the name about all else.
    """
    claim = clean_content_type(claimed)
    if claim:
        return OCTET_STREAM if _contradicts(claim, head) else claim
    guess = guess_content_type(name)
    if guess != OCTET_STREAM and not _contradicts(guess, head):
        return guess
    return next((found for found in _sniff(head) if found in _FAMILIES and found != "image/svg+xml"), OCTET_STREAM)


def _contradicts(content_type: str, head: bytes) -> bool:
    """Tell whether a media type is claimed that these bytes cannot be."""
    family = _FAMILIES.get(content_type)
    if family is not None:
        return family not in {_FAMILIES.get(found) for found in _sniff(head)}
    major = content_type.partition("/")[0]
    if major not in {"image", "audio", "video"}:
        return False
    found = _sniff(head)
    return not head or (bool(found) and all(kind.partition("/")[0] != major for kind in found))


def _sniff(head: bytes) -> list[str]:
    """Give the types these first bytes may be, best first."""
    known = _by_structure(head)
    if known:
        return [known]
    if not _has_signature(head):
        return []
    try:
        matches = puremagic.magic_string(head)
    except (puremagic.PureError, ValueError):
        return []
    return [match.mime_type for match in matches if match.mime_type]


def _has_signature(head: bytes) -> bool:
    """Tell whether puremagic would find anything: it compares 1,400 signatures one by one, most often in vain."""
    return any(head[start:end] in known for (start, end), known in _SIGNATURES.items())


def _signatures() -> dict[tuple[int, int | None], set[bytes]]:
    """Gather the signatures by where they stand, negative from the end; second parts are looked for behind a first."""
    found: defaultdict[tuple[int, int | None], set[bytes]] = defaultdict(set)
    for row in (*puremagic.magic_header_array, *puremagic.magic_footer_array):
        end = row.offset + len(row.byte_match)
        found[row.offset, None if row.offset < 0 == end else end].add(row.byte_match)
    return dict(found)


_SIGNATURES: Final = _signatures()


def _by_structure(head: bytes) -> str:
    """Know containers by their structure where lists of signatures have holes, or take one for another.

    ISO 14496-12 4.3: a file starts with an `ftyp` box of any brand. RIFF names its form behind its length.
    """
    if head[4:8] == b"ftyp":
        return next((kind for brand, kind in _BRANDS.items() if head[8:12].startswith(brand)), "video/mp4")
    if head[:4] == b"RIFF":
        return _RIFF_FORMS.get(head[8:12], OCTET_STREAM)
    if _is_audio_frame(head):
        return "audio/mpeg"
    return "image/svg+xml" if b"<svg" in head[:1024].lower() and b"<html" not in head.lower() else ""


def _is_audio_frame(head: bytes) -> bool:
    """Tell whether an MPEG audio or AAC frame starts here: 11 set bits, then fields that are not all free.

    ISO 11172-3 2.4.1.3: bit rate 15 and sampling rate 3 are forbidden; layer I is no longer met, and with it goes
    FF FE, the byte order mark of UTF-16. ISO 13818-7 6.2 (ADTS): layer 0 and 12 set bits.
    """
    if len(head) < 4 or head[0] != 0xFF or head[:3] == b"\xff\xd8\xff":
        return False
    layer = head[1] >> 1 & 0b11
    if layer == 0:
        return head[1] & 0xF0 == 0xF0 and head[2] >> 2 & 0b1111 < 13
    return head[1] & 0xE0 == 0xE0 and layer != 0b11 and head[2] >> 4 != 0xF and head[2] >> 2 & 0b11 != 0b11
