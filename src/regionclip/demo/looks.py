"""Script, style, colours and fonts of the page. Needs Gradio."""

from importlib.resources import files

from gradio import themes


def browser_file(name: str) -> str:
    """The text of a file that the browser is given."""
    return (files("regionclip.demo") / "browser" / name).read_text(encoding="utf-8")


def page_head() -> str:
    """Script and style; nothing in them asks another host."""
    return (
        f"<script>{browser_file('demo.js')}</script>\n<style>{browser_file('demo.css')}</style>\n"
    )


def page_theme() -> themes.Base:
    """Gradio's own looks with the fonts of the visitor's machine, not with Google's."""
    sans = [themes.Font("system-ui"), themes.Font("sans-serif")]
    mono = [themes.Font("ui-monospace"), themes.Font("monospace")]
    return themes.Soft(primary_hue="pink", neutral_hue="slate", font=sans, font_mono=mono)
