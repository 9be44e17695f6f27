"""``regionclip demo``: the web demo."""

import logging
import os
import tempfile
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Literal

from regionclip.cli.console import UsageError, console
from regionclip.cli.devices import checked_device
from regionclip.cli.listening import ending_well, listening
from regionclip.cli.options import optional, value

ANYWHERE = ("0.0.0.0", "::")
"""Every address of this machine, and no address that a browser could ask for."""


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
    checkpoints. 'icons' comes with the package and knows pictograms; the others are read when they
    are first chosen."""
    proposals: Annotated[tuple[str, ...], value("NAME|FILE...")] = ()
    """Where boxes may come from beside the models' own and a grid: 'torchvision', a detector
    (.onnx), or a proposal network (.pth). Models without any take the first."""
    host: Annotated[str, value("ADDRESS")] = "127.0.0.1"
    """Address to listen on. The default is for this machine alone; 0.0.0.0 lets every machine in
    that can reach this one, and asks no password."""
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
            # Gradio reads these when it is imported: its cache ends with the demo, and it
            # neither counts visitors nor asks for its newest version
            os.environ["GRADIO_TEMP_DIR"] = str(Path(folder) / "gradio")
            os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
            logging.getLogger("httpx").setLevel(logging.WARNING)
            self._serve(Path(folder), device)
        return 0

    def _serve(self, folder: Path, device: str) -> None:
        from regionclip.demo.handlers import Handlers
        from regionclip.demo.models import Choice, Models
        from regionclip.demo.serving import open_browser, serve
        from regionclip.demo.sessions import Sessions, write_examples

        with listening(self.host, self.port) as own:
            models = Models(
                self.model, proposals=self.proposals, device=device, precision=self.precision
            )
            models.open(Choice(models.names[0]))
            sessions = Sessions(folder / "visitors", write_examples(folder / "examples"))
            url = _address(self.host, own.getsockname()[1])

            def ready() -> None:
                said = f"the demo is at {url} (Ctrl+C stops it)"
                console.print(said, markup=False, soft_wrap=True)
                if self.browser:
                    open_browser(url)

            with ending_well():
                serve(Handlers(models, sessions), own, ready=ready, root_path=self.root_path)


def _address(host: str, port: int) -> str:
    """What a browser of this machine asks for."""
    host = "127.0.0.1" if host in ANYWHERE else host
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
