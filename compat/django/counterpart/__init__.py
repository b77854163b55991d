"""A real Django site with the same routes as `cloakroom serve`, for the tests in `compat/tests`."""
