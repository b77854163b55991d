"""The routes of `cloakroom serve`, one view each, and one to change passwords."""

from django.urls import path

from . import views

ROUTES = {
    "set": views.set_item,
    "get": views.get_item,
    "del": views.delete_item,
    "all": views.everything,
    "incr": views.increment,
    "login": views.log_in,
    "logout": views.log_out,
    "whoami": views.who_am_i,
    "password": views.set_password,
    "cycle": views.cycle,
    "clear": views.clear,
    "flush": views.flush,
    "save": views.save,
    "expiry": views.expiry,
    "info": views.info,
    "noop": views.noop,
    "bulk": views.bulk,
    "testcookie": views.test_cookie,
}
urlpatterns = [path(name, views.route(view)) for name, view in ROUTES.items()]
