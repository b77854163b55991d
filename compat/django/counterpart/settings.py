"""Settings from the environment, under the names that Cloakroom reads too, so that a test describes both sides once."""

import json
import os
from urllib.parse import unquote, urlsplit


def text(name, default=None):
    """A variable that is set and not empty, or the default."""
    return os.environ.get(name) or default


def flag(name, default):
    """A Boolean as people write it in an environment."""
    value = text(name)
    return default if value is None else value.lower() in ("1", "true", "yes", "on")


def number(name, default):
    """A whole number."""
    return int(text(name, default))


def items(name):
    """A list: JSON, or values separated by commas."""
    value = text(name, "")
    return json.loads(value) if value.startswith("[") else [item for item in value.split(",") if item]


def database(url):
    """What `DATABASE_URL` names. Connections are kept: making one costs more than most requests."""
    if url.startswith("sqlite://"):
        # The other side writes too: wait for it instead of failing at once.
        return {
            "ENGINE": "django.db.backends.sqlite3",
            "NAME": unquote(url.removeprefix("sqlite://")),
            "OPTIONS": {"timeout": 30},
            "CONN_MAX_AGE": None,
        }
    parts = urlsplit(url)
    if parts.scheme == "mysql":
        # A driver in Python alone, which takes the place of the one that Django looks for.
        import pymysql

        pymysql.install_as_MySQLdb()
    return {
        "ENGINE": "django.db.backends." + {"postgres": "postgresql", "mysql": "mysql"}[parts.scheme],
        "NAME": unquote(parts.path[1:]),
        "USER": unquote(parts.username),
        "PASSWORD": unquote(parts.password),
        "HOST": parts.hostname,
        "PORT": parts.port,
        "CONN_MAX_AGE": None,
    }


SECRET_KEY = text("SECRET_KEY", "")
SECRET_KEY_FALLBACKS = items("SECRET_KEY_FALLBACKS")
DEBUG = False
ALLOWED_HOSTS = ["*"]
ROOT_URLCONF = "counterpart.urls"
WSGI_APPLICATION = "counterpart.wsgi.application"

INSTALLED_APPS = ["django.contrib.contenttypes", "django.contrib.auth", "django.contrib.sessions"]
MIDDLEWARE = [
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
]

DATABASES = {"default": database(text("DATABASE_URL", "sqlite://:memory:"))}
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
# Most users only have to exist: the cheapest hash will do, and no test waits for a strong one unless it asks for it.
PASSWORD_HASHERS = [
    "django.contrib.auth.hashers.MD5PasswordHasher",
    "django.contrib.auth.hashers.PBKDF2PasswordHasher",
]

USE_TZ = flag("USE_TZ", True)
TIME_ZONE = text("TIME_ZONE", "UTC")

if text("CACHES"):
    CACHES = json.loads(text("CACHES"))

SESSION_ENGINE = text("SESSION_ENGINE", "django.contrib.sessions.backends.db")
SESSION_FILE_PATH = text("SESSION_FILE_PATH")
SESSION_COOKIE_NAME = text("SESSION_COOKIE_NAME", "sessionid")
SESSION_COOKIE_AGE = number("SESSION_COOKIE_AGE", 1209600)
SESSION_COOKIE_DOMAIN = text("SESSION_COOKIE_DOMAIN")
SESSION_COOKIE_PATH = text("SESSION_COOKIE_PATH", "/")
SESSION_COOKIE_SECURE = flag("SESSION_COOKIE_SECURE", False)
SESSION_COOKIE_HTTPONLY = flag("SESSION_COOKIE_HTTPONLY", True)
SESSION_COOKIE_SAMESITE = text("SESSION_COOKIE_SAMESITE", "Lax")
SESSION_EXPIRE_AT_BROWSER_CLOSE = flag("SESSION_EXPIRE_AT_BROWSER_CLOSE", False)
SESSION_SAVE_EVERY_REQUEST = flag("SESSION_SAVE_EVERY_REQUEST", False)

LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "handlers": {"console": {"class": "logging.StreamHandler"}},
    "root": {"handlers": ["console"], "level": "WARNING"},
}
