"""``python -m regionclip`` is the command ``regionclip``."""

import sys

from regionclip.cli import main

if __name__ == "__main__":
    sys.exit(main())
