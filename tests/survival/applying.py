"""Where a test has nothing to ask: such cases are not made, so that none is skipped."""

__all__ = ["leaves_out", "unless"]


def unless(*reasons):
    """Leave out the cases of a test, as ``UNLESS`` of a module those of all its tests, for which one
    of the reasons holds: callables of the case's parameters."""

    def mark(function):
        function.unless = reasons
        return function

    return mark


def leaves_out(item):
    """Whether a case is left out."""
    reasons = (*getattr(item.module, "UNLESS", ()), *getattr(item.function, "unless", ()))
    return any(reason(item.callspec.params) for reason in reasons)


def without_websockets(params):
    return params["target"][0] == "django"


def without_errors_told(params):
    """Alone, all that is known of what a framework answers itself is that it answers 500."""
    return params["target"][0] != "starlette" and params.get("served") == "lone"
