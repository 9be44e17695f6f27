"""A form as it was sent, looked at before its fields are read.

The framework takes the last of fields that are given twice, and the default for empty ones.
"""

from collections import Counter

from fastapi import Request

from regionclip.server.problems import RequestError

IN_ONE_FIELD = {
    "image": "send one image with each request",
    "image_url": "send one image with each request",
    "classes": "send the names in one field, with commas",
    "boxes": "send all boxes in one list",
}
"""The way out for who gave a field twice; of any other there is only one value."""


async def check_form(request: Request) -> None:
    """Refuse what would be passed over; a dependency of routes that take a form.

    Raises:
        RequestError: A field is given twice, or is empty.
    """
    parts = (await request.form()).multi_items()
    for name, count in Counter(name for name, _ in parts).items():
        if count > 1:
            way_out = IN_ONE_FIELD.get(name, "send it once")
            raise RequestError(422, f"{name}: given {count} times; {way_out}")
    for name, value in parts:
        if value == "":
            raise RequestError(422, f"{name}: is empty; give it a value, or leave the field out")
