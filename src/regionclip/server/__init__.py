"""An HTTP service around one detector; ``regionclip serve`` runs it.

``app.py`` has the routes and ``service.py`` what they share. ``gate.py`` lets requests in;
``forms.py``, ``reading.py`` and ``fetching.py`` turn what they hold into images, boxes and names or
refuse it; ``batching.py`` has those that go together computed at once.
"""
