"""``regionclip demo``: the web demo."""

import logging
import os
import socket
import tempfile
from dataclasses import dataclass
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Literal

from regionclip.cli.browsers import open_browser
from regionclip.cli.console import UsageError, console, downloads
from regionclip.cli.devices import checked_device
from regionclip.cli.listening import ANYWHERE, ending_well, listening, local_address
from regionclip.cli.options import optional, value


@dataclass(frozen=True, kw_only=True)
class Demo:
    """Try a model in the browser: detect by name, name a box, find it again, heat maps.

    Opens a page of this machine's own; nothing is sent anywhere, and it works offline. Ctrl+C
    stops it.

    For example:

        regionclip demo

        regionclip demo --model icons regionclip_pretrained-cc_rn50.pth --host 0.0.0.0 --no-browser
    """

    model: Annotated[tuple[str, ...], value("NAME|FILE...")] = ("icons",)
    """Models to choose from, the first one first: names that 'regionclip models list' shows, or
    checkpoints. 'icons' comes with the package and knows pictograms. The first one and all files
    are read at the start; others are downloaded when they are first chosen."""
    proposals: Annotated[tuple[str, ...], value("NAME|FILE...")] = ()
    """Where boxes may come from beside the models' own and a grid: 'torchvision', a detector
    (.onnx), or a proposal network (.pth). Models without any take the first."""
    text_weights: Annotated[str | None, optional("NAME|FILE")] = None
    """Model to take the text tower from, for fine-tuned originals, which carry none. Models that
    have one keep it."""
    host: Annotated[str, value("ADDRESS")] = "127.0.0.1"
    """Address to listen on. The default is for this machine alone; 0.0.0.0, or :: with IPv6, lets
    every machine in that can reach this one, and asks no password. A visitor's pictures are deleted
    when the visitor leaves, and all files when the demo stops."""
    port: Annotated[int, value("N")] = 7860
    """Port to listen on; 0 takes any that is free."""
    browser: bool = True
    """Open the page in the browser of this machine. --no-browser only prints its address."""
    root_path: Annotated[str | None, optional("PATH")] = None
    """Where a proxy in front shows the page, such as /demo."""
    device: Annotated[str, value("NAME")] = "auto"
    """cpu, cuda, cuda:1, mps, or auto: a GPU if there is one."""
    precision: Literal["fp32", "bf16", "fp16"] = "fp32"
    """What the image tower computes in."""

    def run(self) -> int:
        """Serve until interrupted."""
        if find_spec("gradio") is None:
            raise UsageError("the demo needs Gradio; pip install 'regionclip[demo]'")
        device = checked_device(self.device)
        with tempfile.TemporaryDirectory(prefix="regionclip-demo-") as folder:
            # Gradio reads these when it is imported: its files end with the demo, and it
            # neither counts visitors nor asks for its newest version
            os.environ["GRADIO_TEMP_DIR"] = str(Path(folder) / "gradio")
            os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
            logging.getLogger("httpx").setLevel(logging.WARNING)
            self._serve(Path(folder), device)
        return 0

    def _serve(self, folder: Path, device: str) -> None:
        from regionclip.demo.handlers import Handlers
        from regionclip.demo.models import Models
        from regionclip.demo.serving import serve
        from regionclip.demo.sessions import Sessions, write_examples

        with listening(self.host, self.port) as own:
            models = Models(
                self.model,
                proposals=self.proposals,
                text_weights=self.text_weights,
                device=device,
                precision=self.precision,
                downloads=downloads,
            )
            models.open_at_start()
            # among Gradio's files it hands results out without copying them
            visitors = folder / "gradio" / "visitors"
            sessions = Sessions(visitors, write_examples(folder / "examples"))
            port = own.getsockname()[1]
            with ending_well():
                serve(
                    Handlers(models, sessions),
                    own,
                    ready=lambda: self._announce(port),
                    root_path=self.root_path,
                )

    def _announce(self, port: int) -> None:
        """Say where the page is, once it is served."""
        url = local_address(self.host, port)
        say = partial(console.print, markup=False, soft_wrap=True)
        say(f"the demo is at {url} (Ctrl+C stops it)")
        if self.host in ANYWHERE:
            say(
                f"other machines find it at port {port} of this one, as in "
                f"http://{socket.gethostname()}:{port}"
            )
        if self.browser:
            said = open_browser(url)
            if said:
                say(said)
