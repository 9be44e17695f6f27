"""What goes wrong with a request, said in one sentence."""

from starlette.exceptions import HTTPException


class RequestError(HTTPException):
    """A request cannot be answered.

    The framework hands it on from wherever it is raised, also while it reads a body.

    Attributes:
        status_code: HTTP status, 4xx for what the caller can mend.
        detail: What is wrong and the way out.
    """

    def __init__(self, status: int, sentence: str) -> None:
        """A status, and the sentence that goes with it."""
        headers = {"Retry-After": "1"} if status in (429, 503) else {}
        if status == 401:
            headers["WWW-Authenticate"] = "Bearer"
        super().__init__(status, sentence, headers)


class TooLargeError(RequestError):
    """The body of a request is longer than the service takes."""

    def __init__(self, max_bytes: int) -> None:
        """Say how long it may be."""
        super().__init__(
            413,
            f"the request has more than {max_bytes} bytes; send a smaller image, or fewer texts",
        )
