"""Django's settings: one file for every environment. What differs is data, and comes from `Environment`."""

from pathlib import Path

from corsheaders.defaults import default_headers

from nodetool_site import logs
from storagecache import config
from storagecache.environment import Environment
from storagecache.machine import development_secret_key, make_folders

ENVIRONMENT = Environment.current()
BASE_DIR = Path(__file__).resolve().parent.parent
make_folders(ENVIRONMENT)

DEBUG = False
SECRET_KEY = ENVIRONMENT.secret_key or development_secret_key(ENVIRONMENT.config_folder)
# Earlier keys: sessions and links that they signed stay valid until they end.
SECRET_KEY_FALLBACKS = list(ENVIRONMENT.secret_key_fallbacks)
ALLOWED_HOSTS = list(ENVIRONMENT.allowed_hosts) or ["127.0.0.1", "localhost", "[::1]"]

INSTALLED_APPS = [
    "assets",  # before the admin: the frame of its pages is ours
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "django.contrib.staticfiles",
    "corsheaders",
    "ninja",  # the page /api/docs, with its scripts from here and not from a CDN
    "storagecache",
]
MIDDLEWARE = [
    "nodetool_site.observing.RouteMiddleware",
    "assets.serving.framing.FramingMiddleware",
    "assets.serving.heads.HeadMiddleware",
    "django.middleware.security.SecurityMiddleware",
    # Only where other origins are allowed: it adds `Vary: origin` to every answer.
    *(["corsheaders.middleware.CorsMiddleware"] if ENVIRONMENT.cors_allowed_origins else []),
    "whitenoise.middleware.WhiteNoiseMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
    "assets.admin.policy.PolicyMiddleware",
    "assets.api.errors.ErrorMiddleware",
]
ROOT_URLCONF = "nodetool_site.urls"
WSGI_APPLICATION = "nodetool_site.wsgi.application"
TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
            ]
        },
    }
]

DATABASES = config.databases(ENVIRONMENT)
STORAGES = config.storages(ENVIRONMENT)
CACHES = config.caches(ENVIRONMENT)
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"

AUTH_PASSWORD_VALIDATORS = [
    {"NAME": "django.contrib.auth.password_validation.UserAttributeSimilarityValidator"},
    {"NAME": "django.contrib.auth.password_validation.MinimumLengthValidator"},
    {"NAME": "django.contrib.auth.password_validation.CommonPasswordValidator"},
]
CSRF_FAILURE_VIEW = "assets.api.errors.csrf_failure"
LOGIN_URL = "admin:login"
LOGIN_REDIRECT_URL = "admin:index"
SESSION_COOKIE_HTTPONLY = True
SESSION_COOKIE_SAMESITE = "Lax"
CSRF_COOKIE_SAMESITE = "Lax"
# Cookies travel in the clear only where the service itself is reached in the clear.
SESSION_COOKIE_SECURE = CSRF_COOKIE_SECURE = ENVIRONMENT.base_url.startswith("https://")
# Behind a proxy that ends TLS, forms come from the public origin. It is taken from the configuration, never a header.
CSRF_TRUSTED_ORIGINS = ["/".join(ENVIRONMENT.base_url.split("/", 3)[:3])]
SECURE_CONTENT_TYPE_NOSNIFF = True
X_FRAME_OPTIONS = "SAMEORIGIN"

# Other origins read and write with a token, or as the local user; cookies never travel across origins.
CORS_ALLOWED_ORIGINS = list(ENVIRONMENT.cors_allowed_origins)
CORS_ALLOW_CREDENTIALS = False
CORS_URLS_REGEX = r"^/(?:storage|api)/"
CORS_ALLOW_METHODS = ("GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS")
_CONDITIONS = ("if-match", "if-none-match", "if-modified-since", "if-unmodified-since", "if-range", "range")
_BODIES = ("content-md5", "digest", "repr-digest", "content-digest", "x-expires-in")
CORS_ALLOW_HEADERS = (*default_headers, *_CONDITIONS, *_BODIES)
CORS_EXPOSE_HEADERS = ("ETag", "Content-Range", "Accept-Ranges", "Content-Disposition", "Location", "Retry-After")
CORS_PREFLIGHT_MAX_AGE = 600  # seconds

# Uploads in forms go through assets.staging, which has its own limit; Django's concerns the other fields.
FILE_UPLOAD_HANDLERS = ["django.core.files.uploadhandler.TemporaryFileUploadHandler"]
DATA_UPLOAD_MAX_MEMORY_SIZE = 4 << 20  # bytes of all fields of a form, or of a JSON body
DATA_UPLOAD_MAX_NUMBER_FIELDS = 1000
DATA_UPLOAD_MAX_NUMBER_FILES = 100

LANGUAGE_CODE = "en"
TIME_ZONE = "UTC"
USE_I18N = False
USE_TZ = True
APPEND_SLASH = False

# Static files are served from where the installed packages keep them: no copy to make, and none to be stale.
STATIC_URL = "/static/"
WHITENOISE_USE_FINDERS = True

LOGGING = logs.configuration(
    ENVIRONMENT.log_level, form=ENVIRONMENT.log_format, secrets=(*ENVIRONMENT.secrets(), SECRET_KEY)
)
