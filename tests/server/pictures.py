"""Image files as bytes."""

from io import BytesIO

from PIL import Image

from regionclip.data.icons.scenes import draw_scene


def scene() -> bytes:
    """A scene with icons, as a PNG file."""
    return png(Image.fromarray(draw_scene(5, 0).pixels))


def png(image: Image.Image) -> bytes:
    """An image as a PNG file."""
    buffer = BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()
