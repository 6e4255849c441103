"""Looking into media: size, duration, pictures in small. A stranger's bytes are decoded in a process of their own only.

Knows no model and no request; what is kept of a look lives in `assets.services.previews`.
"""
