"""Error hierarchy of genaug, translated to gRPC in one place, `genaug.shared.server`.

GenaugError
├── InvalidArgument       the request is wrong in every state of the system
├── NotFound              the named resource does not exist
├── AlreadyExists         the resource exists with other content
├── FailedPrecondition    right in itself, but not now; the message says what has to come first
├── PermissionDenied      the identity lacks the right
├── Unauthenticated       no or wrong credentials
├── ResourceExhausted     a quota, queue or disk is full; try again later
├── Unavailable           not reachable for now; try again
├── Cancelled             stopped by the caller
├── DeadlineExceeded      stopped by the clock
└── Internal              a defect of genaug; the caller is given the request id alone
"""

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
    code = "INVALID_ARGUMENT"


class NotFound(GenaugError):
    code = "NOT_FOUND"


class AlreadyExists(GenaugError):
    code = "ALREADY_EXISTS"


class FailedPrecondition(GenaugError):
    code = "FAILED_PRECONDITION"


class PermissionDenied(GenaugError):
    code = "PERMISSION_DENIED"


class Unauthenticated(GenaugError):
    code = "UNAUTHENTICATED"


class ResourceExhausted(GenaugError):
    code = "RESOURCE_EXHAUSTED"


class Unavailable(GenaugError):
    code = "UNAVAILABLE"


class Cancelled(GenaugError):
    code = "CANCELLED"


class DeadlineExceeded(GenaugError):
    code = "DEADLINE_EXCEEDED"


class Internal(GenaugError):
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
