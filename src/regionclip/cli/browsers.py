"""The browser of the machine that a command runs on."""

import threading
import webbrowser
from pathlib import Path

CONSOLE_BROWSERS = frozenset(
    {"www-browser", "browsh", "carbonyl", "elinks", "links", "links2", "lynx", "w3m"}
)
"""Browsers that take the terminal that the command runs in, and are waited for: those that Python's
webbrowser offers without a display (Lib/webbrowser.py, register_standard_browsers), and others that
$BROWSER may name."""


def open_browser(url: str) -> str:
    """Show a page in this machine's browser, without waiting for it.

    Args:
        url: Of the page.

    Returns:
        Why it is not shown; empty if a browser was asked to.
    """
    try:
        browser = webbrowser.get()
    except webbrowser.Error:
        return "no browser was found here; open the address in one"
    name = Path(str(getattr(browser, "name", ""))).name
    if name in CONSOLE_BROWSERS:
        return f"the only browser here, {name}, would take this terminal; open the address in one"
    # some browsers' commands end when the browser does
    threading.Thread(target=browser.open, args=(url,), daemon=True).start()
    return ""
