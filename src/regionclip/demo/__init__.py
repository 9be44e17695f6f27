"""The web demo: what ``regionclip demo`` shows in a browser.

``actions.py`` computes, ``page.py`` lays out, ``serving.py`` serves. Only ``bar``, ``page``,
``wiring``, ``looks`` and ``serving`` know Gradio.
"""
