"""Error hierarchy of genaug, translated to gRPC in one place, `genaug.shared.server`."""

from __future__ import annotations


class GenaugError(Exception):
    """Base of all errors: a canonical gRPC code, a reason word for programs, a message for people.

    Args:
        message: What was wrong, where (the path or key), what to do. Never pixels, subject ids, file names or secrets.
        reason: One UPPER_SNAKE word for programs; defaults to the code.
        metadata: Facts for programs, as strings.
    """

    code = "UNKNOWN"

    def __init__(self, message: str, *, reason: str = "", **metadata: str) -> None:
        super().__init__(message)
        self.message = message
        self.reason = reason or self.code
        self.metadata = metadata


class InvalidArgument(GenaugError):
    """The request is wrong in every state of the system."""

    code = "INVALID_ARGUMENT"


class NotFound(GenaugError):
    """The named resource does not exist."""

    code = "NOT_FOUND"


class AlreadyExists(GenaugError):
    """The resource exists with other content."""

    code = "ALREADY_EXISTS"


class FailedPrecondition(GenaugError):
    """The request is right in itself, but not now; the message says what has to come first."""

    code = "FAILED_PRECONDITION"


class PermissionDenied(GenaugError):
    """The identity lacks the right."""

    code = "PERMISSION_DENIED"


class Unauthenticated(GenaugError):
    """The credentials are missing or wrong."""

    code = "UNAUTHENTICATED"


class ResourceExhausted(GenaugError):
    """A quota, queue or disk is full; try again later."""

    code = "RESOURCE_EXHAUSTED"


class Unavailable(GenaugError):
    """A service is not reachable for now; try again."""

    code = "UNAVAILABLE"


class Cancelled(GenaugError):
    """The caller stopped the call."""

    code = "CANCELLED"


class DeadlineExceeded(GenaugError):
    """The deadline stopped the call."""

    code = "DEADLINE_EXCEEDED"


class Internal(GenaugError):
    """A defect of genaug; the caller is given the request id alone."""

    code = "INTERNAL"


BY_CODE: dict[str, type[GenaugError]] = {
    kind.code: kind
    for kind in (
        InvalidArgument,
        NotFound,
        AlreadyExists,
        FailedPrecondition,
        PermissionDenied,
        Unauthenticated,
        ResourceExhausted,
        Unavailable,
        Cancelled,
        DeadlineExceeded,
        Internal,
    )
}

# Codes that mean "the input is bad": trying again with the same input cannot help.
FINAL_CODES = frozenset(
    {"INVALID_ARGUMENT", "NOT_FOUND", "ALREADY_EXISTS", "FAILED_PRECONDITION", "PERMISSION_DENIED", "UNAUTHENTICATED"}
)
