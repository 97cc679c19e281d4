"""Settings, all from the environment. With neither DATABASE_URL nor REDIS_URL all is embedded."""

import mimetypes
from pathlib import Path

import dj_database_url
from corsheaders.defaults import default_headers

from p2pweb import environment

BASE_DIR = Path(__file__).resolve().parent.parent
DATA_DIR = environment.folder("P2PWEB_DATA_DIR") or BASE_DIR / "data"
DATA_DIR.mkdir(parents=True, exist_ok=True)

REDIS_URL = environment.text("REDIS_URL")
EMBEDDED = not REDIS_URL  # one site process and one worker that it supervises
VERSION = "0.1.0"

SECRET_KEY = environment.secret_key(DATA_DIR)
DEBUG = environment.flag("DEBUG")
PORT = environment.number("PORT", 8000)
ALLOWED_HOSTS = environment.words("ALLOWED_HOSTS", "localhost,127.0.0.1,[::1]")
CSRF_TRUSTED_ORIGINS = environment.words("TRUSTED_ORIGINS")
CORS_ALLOWED_ORIGINS = environment.words("CORS_ALLOWED_ORIGINS")
CORS_ALLOW_ALL_ORIGINS = environment.flag("CORS_ALLOW_ALL_ORIGINS")
CORS_URLS_REGEX = r"^/api/.*$"
CORS_ALLOW_HEADERS = [*default_headers, "if-range", "range"]  # of model packages
CORS_EXPOSE_HEADERS = ["Accept-Ranges", "Content-Range", "ETag", "Location", "Retry-After"]

INSTALLED_APPS = [
    "daphne",
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "django.contrib.staticfiles",
    "channels",
    "corsheaders",
    "ninja",
    "genqueue",
    "rooms",
]

MIDDLEWARE = [
    "p2pweb.middleware.security_headers",
    "genqueue.api.middleware.api_middleware",
    "django.middleware.security.SecurityMiddleware",
    "whitenoise.middleware.WhiteNoiseMiddleware",
    "corsheaders.middleware.CorsMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "genqueue.clients.client_middleware",
]

ROOT_URLCONF = "p2pweb.urls"
ASGI_APPLICATION = "p2pweb.asgi.application"

TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "DIRS": [BASE_DIR / "templates"],
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
            ],
        },
    }
]

# Database -------------------------------------------------------------------------------------
# SQLite: writers queue up at BEGIN instead of failing in the middle of a transaction, and readers
# never wait (WAL).
_DATABASE_URL = environment.database_url(BASE_DIR, DATA_DIR)
if _DATABASE_URL.startswith("postgres"):
    DATABASES = {"default": dj_database_url.parse(_DATABASE_URL, conn_max_age=60)}
else:
    DATABASES = {
        "default": {
            "ENGINE": "django.db.backends.sqlite3",
            "NAME": _DATABASE_URL.removeprefix("sqlite:///"),
            "CONN_MAX_AGE": None,
            "OPTIONS": {
                "timeout": 20,
                "transaction_mode": "IMMEDIATE",
                "init_command": "PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL;",
            },
            "TEST": {"NAME": str(DATA_DIR / "test.sqlite3")},
        }
    }
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"

# Redis, or nothing ------------------------------------------------------------------------------
if REDIS_URL:
    CHANNEL_LAYERS = {
        "default": {
            "BACKEND": "p2pweb.hint_layer.HintLayer",
            "CONFIG": {"url": REDIS_URL, "capacity": 2000, "expiry": 30},
        }
    }
    CELERY_BROKER_URL = REDIS_URL
    CELERY_BROKER_TRANSPORT_OPTIONS: dict[str, object] = {
        "visibility_timeout": 3600,
        "socket_timeout": 1.0,  # seconds; a request waits for no Redis that hangs
        "socket_connect_timeout": 1.0,
    }
else:
    CHANNEL_LAYERS = {
        "default": {
            "BACKEND": "channels.layers.InMemoryChannelLayer",
            "CONFIG": {"capacity": 2000, "expiry": 30},
        }
    }
    _broker = DATA_DIR / "broker"
    _broker.mkdir(exist_ok=True)
    CELERY_BROKER_URL = "filesystem://localhost"
    CELERY_BROKER_TRANSPORT = "p2pweb.file_broker:Transport"
    CELERY_BROKER_TRANSPORT_OPTIONS = {
        "data_folder_in": str(_broker),
        "data_folder_out": str(_broker),
        "control_folder": str(_broker),
        "polling_interval": 0.01,  # seconds; kombu's default of 1 would be seen as lag
    }
CELERY_TASK_IGNORE_RESULT = True
CELERY_TASK_DEFAULT_QUEUE = "work"
CELERY_WORKER_POOL = "solo"  # one process that keeps one model loaded
CELERY_WORKER_PREFETCH_MULTIPLIER = 1
CELERY_WORKER_ENABLE_REMOTE_CONTROL = not EMBEDDED
CELERY_WORKER_HIJACK_ROOT_LOGGER = False
CELERY_BROKER_CONNECTION_RETRY_ON_STARTUP = True
CELERY_BROKER_CONNECTION_MAX_RETRIES = None  # a worker outlives any outage
# Once more, for a connection that had broken unnoticed; the sweeper sends again what is lost.
CELERY_TASK_PUBLISH_RETRY_POLICY = {"max_retries": 1, "interval_start": 0, "interval_max": 0.2}

# Files ------------------------------------------------------------------------------------------
MEDIA_ROOT = DATA_DIR / "media"  # served by views that check, never by a URL prefix
STATIC_URL = "/static/"
STATIC_ROOT = BASE_DIR / "staticfiles"
STATIC_ROOT.mkdir(exist_ok=True)  # whitenoise warns when it is not there
STATICFILES_DIRS = [BASE_DIR / "static"]
STORAGES = {
    "default": {
        "BACKEND": "django.core.files.storage.FileSystemStorage",
        "OPTIONS": {"allow_overwrite": True},
    },
    "staticfiles": {"BACKEND": "django.contrib.staticfiles.storage.StaticFilesStorage"},
}
WHITENOISE_USE_FINDERS = True
WHITENOISE_AUTOREFRESH = DEBUG
mimetypes.add_type("text/javascript", ".mjs")
mimetypes.add_type("text/javascript", ".js")
mimetypes.add_type("text/wgsl", ".wgsl")

MODELS_DIR = environment.folder("P2PWEB_MODELS_DIR")
MODEL_ROOTS = [BASE_DIR / "models", MODELS_DIR or DATA_DIR / "models"]  # fetched into the last
DEFAULT_MODEL = environment.text("P2PWEB_DEFAULT_MODEL", "prx-emoji")
BACKEND = environment.text("P2PWEB_BACKEND", "auto")
PRECISION = environment.text("P2PWEB_PRECISION") or None  # each backend's own
GPU_MEMORY_MB = environment.number("P2PWEB_GPU_MEMORY_MB", 0)  # wgpu's; 0 is what there is
WGSL_DIR = BASE_DIR / "static" / "wgsl"

# Limits -----------------------------------------------------------------------------------------
P2PWEB_LIMITS = {
    "room_jobs": environment.number("P2PWEB_MAX_JOBS_PER_ROOM", 100),  # unfinished ones
    "client_jobs": environment.number("P2PWEB_MAX_JOBS_PER_CLIENT", 20),
    "room_tabs": environment.number("P2PWEB_MAX_TABS_PER_ROOM", 64),  # that compute
    "client_tabs": environment.number("P2PWEB_MAX_TABS_PER_CLIENT", 8),
    "prompt_characters": environment.number("P2PWEB_MAX_PROMPT_CHARACTERS", 2000),
    "steps": environment.number("P2PWEB_MAX_STEPS", 100),
    "num_images": environment.number("P2PWEB_MAX_IMAGES", 16),
    "side": environment.number("P2PWEB_MAX_SIDE", 2048),
    "body_bytes": environment.number("P2PWEB_MAX_BODY_BYTES", 256 * 1024),
    "jobs_a_minute_without_cookie": environment.number("P2PWEB_JOBS_A_MINUTE_WITHOUT_COOKIE", 60),
    "rooms_a_minute": environment.number("P2PWEB_ROOMS_A_MINUTE", 60),  # of one address
    "helpers_a_minute": environment.number("P2PWEB_HELPERS_A_MINUTE", 30),  # of one address
}
# The relay for signalling at /relay/: pages of which other origins may use it, * is all of them;
# rooms/relay/limits.py has the limits.
P2PWEB_RELAY_ORIGINS = environment.words("P2PWEB_RELAY_ORIGINS", "*")
P2PWEB_RELAY_LIMITS = {
    "connections": environment.number("P2PWEB_RELAY_CONNECTIONS", 5000),
    "address_connections": environment.number("P2PWEB_RELAY_CONNECTIONS_OF_AN_ADDRESS", 256),
}
# Tabs of a room talk directly, when their people agree; they meet over our relay and over these.
P2PWEB_MESH = environment.flag("P2PWEB_MESH", True)
P2PWEB_RELAYS = environment.sockets("P2PWEB_RELAYS")
P2PWEB_ICE = environment.ice_servers()  # STUN and TURN
CACHES = {
    "default": {
        "BACKEND": "django.core.cache.backends.locmem.LocMemCache",
        "OPTIONS": {"MAX_ENTRIES": 10_000},  # two budgets an address
    }
}
DATA_UPLOAD_MAX_MEMORY_SIZE = P2PWEB_LIMITS["body_bytes"]

# Leases (seconds) -------------------------------------------------------------------------------
LEASE_SECONDS = 30
HEARTBEAT_SECONDS = 10
SWEEP_SECONDS = 5
MAX_FAULTS = 3
CHUNK_SECONDS = environment.number("P2PWEB_CHUNK_SECONDS", 3)
CHECKPOINT_SECONDS = environment.number("P2PWEB_CHECKPOINT_SECONDS", 2)
# Results of tabs and helpers are computed again now and then (genqueue/checks.py).
P2PWEB_SPOT_CHECKS = environment.flag("P2PWEB_SPOT_CHECKS", True)
WORKER_NICENESS = environment.number("P2PWEB_WORKER_NICENESS", 2)  # embedded only

# What is forgotten, and when (genqueue/retention.py) ----------------------------------------------
KEPT_FOR = {
    "pictures": environment.days("P2PWEB_KEEP_PICTURES_DAYS", 0),
    "jobs_without_pictures": environment.days("P2PWEB_KEEP_JOBS_WITHOUT_PICTURES_DAYS", 7),
    "chunks": environment.days("P2PWEB_KEEP_CHUNKS_DAYS", 7),
    "empty_rooms": environment.days("P2PWEB_KEEP_EMPTY_ROOMS_DAYS", 30),
    "workers": environment.days("P2PWEB_KEEP_WORKERS_DAYS", 30),
}

# Security ---------------------------------------------------------------------------------------
SECURE_CONTENT_TYPE_NOSNIFF = True
SECURE_REFERRER_POLICY = "same-origin"
SECURE_CROSS_ORIGIN_OPENER_POLICY = "same-origin"
SESSION_COOKIE_SAMESITE = "Lax"
CSRF_COOKIE_SAMESITE = "Lax"
if environment.flag("P2PWEB_HTTPS"):
    SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https")
    SESSION_COOKIE_SECURE = CSRF_COOKIE_SECURE = True

USE_TZ = True
TIME_ZONE = "UTC"
LANGUAGE_CODE = "en-us"
USE_I18N = False

LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {"line": {"format": "%(asctime)s %(levelname)s %(name)s: %(message)s"}},
    "handlers": {"stderr": {"class": "logging.StreamHandler", "formatter": "line"}},
    "root": {"handlers": ["stderr"], "level": environment.text("LOG_LEVEL", "WARNING")},
    "loggers": {"genqueue": {"level": environment.text("LOG_LEVEL", "INFO")}},
}
