"""The views. Each takes the request and returns what its JSON answer says; `route` does the rest."""

import functools
import json
import time
from datetime import datetime, timedelta

from django.contrib.auth import get_user_model, login, logout, update_session_auth_hash
from django.contrib.auth.hashers import make_password
from django.http import HttpResponse, HttpResponseBadRequest

OK = {"ok": True}
MODEL_BACKEND = "django.contrib.auth.backends.ModelBackend"


def route(view):
    """Answers with the view's result as JSON, after `sleep=` seconds and with the status of `status=`."""

    @functools.wraps(view)
    def answer(request):
        try:
            result = view(request)
        except (KeyError, ValueError) as problem:
            # A missing or unreadable parameter; Django itself would make a 500 of it.
            return HttpResponseBadRequest(repr(problem))
        time.sleep(float(request.GET.get("sleep", 0)))
        body = json.dumps(result, separators=(",", ":"))
        return HttpResponse(body, content_type="application/json", status=int(request.GET.get("status", 200)))

    return answer


def set_item(request):
    request.session[request.GET["k"]] = json.loads(request.GET["v"])
    return OK


def get_item(request):
    name = request.GET["k"]
    if name not in request.session:
        return {"found": False, "value": None}
    return {"found": True, "value": request.session[name]}


def delete_item(request):
    request.session.pop(request.GET["k"], None)
    return OK


def everything(request):
    data = dict(request.session.items())
    return {"key": request.session.session_key, "data": data}


def increment(request):
    name = request.GET["k"]
    request.session[name] = request.session.get(name, 0) + 1
    return {"value": request.session[name]}


def log_in(request):
    """A real login, of a user who is made for it; `p` is the encoded password in the user's row."""
    user = user_of(request, request.GET["u"])
    login(request, user, backend=MODEL_BACKEND)
    return {"ok": True, "user": request.session["_auth_user_id"]}


def log_out(request):
    logout(request)
    return OK


def who_am_i(request):
    """The id in the session; with `p`, also whether Django still takes that user as logged in."""
    user = request.session.get("_auth_user_id")
    valid = None
    if user is not None and "p" in request.GET:
        user_of(request, user)
        valid = request.user.is_authenticated
    return {"user": user, "valid": valid}


def set_password(request):
    """A real password, hashed as Django does by default; `keep=1` keeps the session of this request logged in."""
    # Whoever asks is looked up before the password changes, as a view for users who are logged in would.
    bool(request.user.is_authenticated)
    user = user_of(request, request.GET["u"])
    user.password = make_password(request.GET["raw"], hasher="pbkdf2_sha256")
    user.save(update_fields=["password"])
    if request.GET.get("keep"):
        update_session_auth_hash(request, user)
    return {"password": user.password}


def user_of(request, key):
    users = get_user_model().objects
    user, _ = users.get_or_create(pk=int(key), defaults={"username": f"user{key}", "password": "md5$salt$0"})
    password = request.GET.get("p")
    if password is not None and password != user.password:
        user.password = password
        user.save(update_fields=["password"])
    return user


def cycle(request):
    before = request.session.session_key
    request.session.cycle_key()
    return {"before": before, "after": request.session.session_key}


def clear(request):
    request.session.clear()
    return OK


def flush(request):
    request.session.flush()
    return OK


def save(request):
    request.session.save()
    return OK


def expiry(request):
    value = request.GET["s"]
    if value == "none":
        value = None
    elif value.startswith("td:"):
        value = timedelta(seconds=float(value[3:]))
    elif value.startswith("dt:"):
        value = datetime.fromisoformat(value[3:])
    else:
        value = int(value)
    request.session.set_expiry(value)
    return OK


def info(request):
    session = request.session
    before = {
        "accessed_before": session.accessed,
        "modified_before": session.modified,
        "is_empty_before": session.is_empty(),
    }
    return {
        "age": session.get_expiry_age(),
        "date": session.get_expiry_date().isoformat(),
        "browser_close": session.get_expire_at_browser_close(),
        "key": session.session_key,
        **before,
    }


def noop(request):
    return OK


def bulk(request):
    for index in range(int(request.GET["n"])):
        request.session[f"bulk{index}"] = "x" * int(request.GET["size"])
    return OK


def test_cookie(request):
    operation = request.GET["op"]
    if operation == "set":
        request.session.set_test_cookie()
    elif operation == "check":
        return {"worked": request.session.test_cookie_worked()}
    elif operation == "delete":
        if request.session.has_key("testcookie"):
            request.session.delete_test_cookie()
    else:
        raise ValueError(operation)
    return OK
